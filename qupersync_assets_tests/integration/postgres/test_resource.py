"""The connections to the target: a server that vanishes without a word is noticed in minutes, not in hours."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from qupersync_assets.core.errors import SyncError
from qupersync_assets.postgres.connection import URL
from qupersync_assets.postgres.resource import PostgresResource, count_rows
from qupersync_assets.settings import Settings
from qupersync_assets.sync_jobs.node_details import SPEC
from qupersync_assets_tests.support.integration import Query

OPTIONS = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="options of Linux")
@pytest.mark.parametrize("storage", [False, True])
def test_a_vanished_server_is_detected(engine: sa.Engine, storage: bool) -> None:
    with (sa.create_engine(URL) if storage else engine).connect() as connection:
        handle = os.dup(connection.connection.dbapi_connection.fileno())
    with socket.socket(fileno=handle) as end:
        set_ = {name: end.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) for name, option in OPTIONS.items()}
    assert set_["keepalives_idle"] + set_["keepalives_interval"] * set_["keepalives_count"] <= 120
    assert 0 < set_["tcp_user_timeout"] <= 120_000


def test_rows_of_a_large_neighbor_do_not_make_the_count_an_estimate(postgres: PostgresResource, target: Query) -> None:
    target(
        "INSERT INTO quper.node_details (cluster, node) SELECT 'large', n FROM generate_series(1, 100001) n "
        "UNION ALL SELECT 'small', n FROM generate_series(1, 3) n; ANALYZE quper.node_details"
    )
    with postgres.transaction() as connection:
        assert count_rows(connection, SPEC.table, "small") == 3
        assert 90_000 < count_rows(connection, SPEC.table, "large") < 110_000


@pytest.fixture
def secret(target: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file with the password of POSTGRES_USER, a role of its own whose password is `first`."""
    target("CREATE ROLE rotated LOGIN PASSWORD 'hunter2-first' IN ROLE qupersync")
    path = tmp_path / "password"
    path.write_text("hunter2-first\n")
    for name, value in {"PASSWORD": "", "PASSWORD_FILE": str(path), "USER": "rotated"}.items():
        monkeypatch.setenv(f"POSTGRES_{name}", value)
    yield path
    target("DROP ROLE rotated")


def test_a_new_password_in_a_file_needs_no_restart(secret: Path, target: Query) -> None:
    postgres, storage = PostgresResource(Settings.load()), sa.create_engine(URL, poolclass=sa.pool.NullPool)
    postgres.check()
    target("ALTER ROLE rotated PASSWORD 'hunter2-second'")
    with postgres.transaction():
        pass  # the session is open
    with pytest.raises(SyncError, match="28P01"):
        postgres.check()
    secret.write_text("hunter2-second\n")
    postgres.check()
    with storage.connect() as connection:
        assert connection.scalar(sa.text("SELECT current_user")) == "rotated"
    postgres.dispose()


def test_a_server_that_cannot_write_a_file_is_not_usable(secret: Path, target: Query) -> None:
    target("ALTER ROLE rotated SET temp_file_limit = 0")  # as with a full disk
    postgres = PostgresResource(Settings.load())
    with postgres.transaction():
        pass  # the login works
    with pytest.raises(SyncError, match="temp_file_limit"):
        postgres.check()
    postgres.dispose()
