"""A real PgBouncer before the target: session mode works, and transaction mode is refused before anything is loaded."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.postgres import connection
from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.settings import Settings
from qupersync_assets_tests.support.demo_process import free_port, until
from qupersync_assets_tests.support.integration import Command, Query, Sync

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE usename = 'qupersync'"
StartPooler = Callable[..., None]


@pytest.fixture
def start_pooler(
    sandbox: Sandbox, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StartPooler]:
    """Start PgBouncer in a mode, with nothing but defaults; POSTGRES_PORT is then its port."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is NOT tested: there is no pgbouncer; apt-get install pgbouncer brings it")
    monkeypatch.setattr(connection, "_sessions_kept", set())
    with ExitStack() as ends:

        def start(mode: str, **options: str) -> None:
            port, users = free_port(), tmp_path / "users"
            users.write_text(f'"qupersync" "{environment["POSTGRES_PASSWORD"]}"\n')
            given = {"pool_mode": mode, "auth_type": "scram-sha-256", "auth_file": str(users), **options}
            given |= {"listen_addr": "127.0.0.1", "listen_port": str(port), "unix_socket_dir": "''"}
            if os.geteuid() == 0:
                given["user"] = pwd.getpwuid(65534).pw_name  # PgBouncer refuses root
                shutil.chown(users, given["user"])
                users.chmod(0o600)
                for folder in (tmp_path, *tmp_path.parents[:2]):
                    folder.chmod(0o755)
            lines = [f"{name} = {value}" for name, value in given.items()]
            database = f"quper = host={sandbox.server.host} port={sandbox.server.port}"
            file = tmp_path / "pgbouncer.ini"
            file.write_text("\n".join(["[databases]", database, "[pgbouncer]", *lines]))
            with (tmp_path / "log").open("w") as log:
                process = subprocess.Popen([program, file], stdout=log, stderr=log)
            ends.callback(process.wait, 20)
            ends.callback(process.kill)
            until(lambda: listening(port) or process.poll() is not None, 20)
            assert process.poll() is None, (tmp_path / "log").read_text()
            monkeypatch.setenv("POSTGRES_PORT", str(port))

        yield start


def listening(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_session_mode_works(start_pooler: StartPooler, sync: Sync, target: Query, qupersync: Command) -> None:
    start_pooler("session")
    with pytest.raises(psycopg2.OperationalError, match="unsupported startup parameter"):
        psycopg2.connect(**Settings.load().libpq(), options="-c timezone=UTC")
    for _ in range(2):
        assert sync("node_details", "query_history").success
    assert target("SELECT count(*), min(status) FROM quper.sync_logs") == [(4, "success")]
    findings = qupersync("doctor", "--json").json["findings"]
    assert [f["detail"] for f in findings if f["what"] == "path"] == ["through a pooler in session mode"]
    with postgres_resource(Settings.load()).transaction() as session:
        assert session.scalar(sa.text("SHOW TimeZone")) == "UTC"


@pytest.mark.parametrize("options", [{}, {"server_round_robin": "1", "min_pool_size": "2"}], ids=["last", "rotating"])
def test_transaction_mode_is_refused(
    start_pooler: StartPooler, sync: Sync, target: Query, qupersync: Command, options: dict[str, str]
) -> None:
    before = set(target(BACKENDS))
    start_pooler("transaction", **options)
    settings = Settings.load()
    if options:  # it opens the second connection when the first client is there
        with closing(psycopg2.connect(**settings.libpq())):
            until(lambda: len(set(target(BACKENDS)) - before) == 2, 20)
    with closing(psycopg2.connect(**settings.libpq())) as plain, closing(psycopg2.connect(**settings.libpq())) as other:
        plain.autocommit = other.autocommit = True
        first, *more = [backend(session) for session in (plain, plain, other, other, other)]
    assert first != more[0] or first in more[1:]  # the sessions share a backend
    postgres = postgres_resource(settings)
    words = r"pooler such as PgBouncer .* pool_mode = session"
    with pytest.raises(SyncError, match=words) as refusal, postgres.transaction():
        pass
    assert refusal.value.error_class is ErrorClass.FATAL
    assert not sync("node_details").success
    assert target("SELECT count(*) FROM quper.sync_logs") == [(0,)]
    done = qupersync("doctor", "--json")
    (problem,) = [f for f in done.json["findings"] if not f["ok"]]
    assert done.code == 1 and "transaction mode" in problem["remedy"]
    assert qupersync("sync").code == 1


def backend(session: psycopg2.extensions.connection) -> int:
    with session.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (number,) = cursor.fetchone() or (0,)
    return int(number)
