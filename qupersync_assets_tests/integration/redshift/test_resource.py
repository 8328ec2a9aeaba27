"""Reading pages through the real driver: exact values, one page in memory, a pool that replaces dead connections."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
from pydantic import SecretStr

from qupersync_assets.core.errors import SyncError
from qupersync_assets.redshift.login_gate import OpenGate
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.settings.redshift_login import PasswordLogin, RedshiftSettings
from qupersync_assets_tests.support.integration import Query, pages_of


@pytest.fixture
def redshift(environment: dict[str, str]) -> RedshiftResource:
    login = PasswordLogin(
        host=environment["REDSHIFT_HOST"],
        port=int(environment["REDSHIFT_PORT"]),
        database=environment["REDSHIFT_DATABASE"],
        user=environment["REDSHIFT_USER"],
        password=SecretStr(environment["REDSHIFT_PASSWORD"]),
        ssl=False,
    )
    return RedshiftResource(login)


@pytest.fixture
def lenient(sandbox: Sandbox) -> Iterator[None]:
    """Allow statements about the server that Redshift does not support."""
    sandbox.gateway.strict = False
    yield
    sandbox.gateway.strict = True


@pytest.mark.parametrize(("rows", "size"), [(0, 10), (1, 10), (10, 10), (11, 10), (2500, 1000), (2500, 2200)])
def test_pages_have_every_row_once(redshift: RedshiftResource, rows: int, size: int) -> None:
    pages = list(pages_of(redshift, f"SELECT n, n * 2 AS double FROM generate_series(1, {rows}) n", size))
    assert [list(r) for p in pages for r in p.rows] == [[n, n * 2] for n in range(1, rows + 1)]
    assert all(p.columns == ("n", "double") for p in pages)
    assert [len(p.rows) for p in pages[:-1]] == [size] * (len(pages) - 1)


def test_pages_of_a_single_node_are_smaller(
    redshift: RedshiftResource, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox.gateway, "mode", "single-node")
    sql = "SELECT n FROM generate_series(1, 5100) n"
    with monkeypatch.context() as patched:
        patched.setattr("qupersync_assets.redshift.session.SINGLE_NODE_FETCH", 2500)
        with pytest.raises(SyncError, match="Fetch size 2500 exceeds the limit"):
            next(pages_of(redshift, sql, 2500))
    pages = list(pages_of(redshift, sql, 2500))
    assert [len(p.rows) for p in pages] == [2000, 2000, 1100]
    assert [n for p in pages for (n,) in p.rows] == list(range(1, 5101))


def test_values_are_exact(redshift: RedshiftResource) -> None:
    sql = (
        "SELECT 9223372036854775807::bigint AS i, 99999999999999999999999999999999999999::numeric(38,0) AS d, "
        "'x  '::char(3) AS c, timestamp '2026-03-08 02:30:00.123456' AS t, NULL::bigint AS nothing, "
        "true AS b, '%s % 100%'::text AS percent"
    )
    (page,) = pages_of(redshift, sql, 10)
    assert list(page.rows[0]) == [
        *(2**63 - 1, Decimal(10**38 - 1), "x  ", datetime(2026, 3, 8, 2, 30, 0, 123456), None, True),
        "%s % 100%",
    ]


def test_pages_are_fetched_on_demand(redshift: RedshiftResource, source: Query, lenient: None) -> None:
    source("DROP SEQUENCE IF EXISTS reads; CREATE SEQUENCE reads; GRANT USAGE ON SEQUENCE reads TO qupersync_reader")
    pages = pages_of(redshift, "SELECT nextval('reads') FROM generate_series(1, 100000)", 100)
    assert len(list(islice(pages, 3))) == 3
    pages.close()  # type: ignore[attr-defined]
    read = source("SELECT last_value FROM reads")[0][0]
    assert 300 <= read <= 400


@pytest.mark.parametrize("taken", [1, 2, 5])
def test_a_session_is_usable_after_an_early_stop(redshift: RedshiftResource, taken: int) -> None:
    with redshift.session() as session:
        pages = session.pages("SELECT n FROM generate_series(1, 50) n", 10)
        assert [len(page) for page in islice(pages, taken)] == [10] * taken
        pages.close()
        assert session.rows("SELECT 1 AS one")[0][0] == 1
    assert [len(page) for page in pages_of(redshift, "SELECT n FROM generate_series(1, 5) n", 3)] == [3, 2]


def test_no_row_is_lost_when_the_driver_evicts_prepared_statements(redshift: RedshiftResource) -> None:
    with redshift.session() as session:
        session._connection.dbapi_connection.max_prepared_statements = 1
        for _ in range(3):
            pages = session.pages("SELECT n FROM generate_series(1, 25) n", 10)
            assert [len(page) for page in pages] == [10, 10, 5]


def test_a_dead_connection_is_replaced(redshift: RedshiftResource, source: Query) -> None:
    def backend() -> int:
        return next(pages_of(redshift, "SELECT pg_backend_pid()", 1)).rows[0][0]

    first = backend()
    assert backend() == first  # pooled
    killed = source("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s", [first])
    assert killed == [(True,)]
    assert backend() != first


def test_an_error_leaves_a_usable_pool(redshift: RedshiftResource) -> None:
    with pytest.raises(SyncError, match="22012"):
        list(pages_of(redshift, "SELECT 1 / (n - 5) FROM generate_series(1, 10) n", 2))
    assert next(pages_of(redshift, "SELECT 1 AS one", 1)).rows[0][0] == 1


def test_sessions_keep_their_name_and_settings_after_an_error(
    redshift: RedshiftResource, lenient: None, source: Query
) -> None:
    redshift.settings = redshift.settings.model_copy(update={"statement_timeout": 77})
    source("ALTER ROLE qupersync_reader SET timezone = 'Asia/Tokyo'")
    try:
        with redshift.session() as session:
            with pytest.raises(SyncError, match="22012"):
                session.rows("SELECT 1 / 0")
            names = "application_name", "TimeZone", "statement_timeout"
            shown = session.rows(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")
            assert list(shown[0]) == ["qupersync", "UTC", "77s"]
            assert session._connection.dbapi_connection._usock.gettimeout() > 77
    finally:
        source("ALTER ROLE qupersync_reader RESET timezone")


class Passed(OpenGate):
    """Lets each login pass; `logins` are their databases, and whether each is the main one."""

    def __init__(self) -> None:
        self.logins: list[tuple[str | None, bool]] = []

    def attempt(self, login: RedshiftSettings, *others: Any, is_main: bool) -> Any:
        self.logins.append((login.database, is_main))
        return super().attempt(login, *others, is_main=is_main)


def test_a_session_of_another_database_is_closed(sandbox: Sandbox, redshift: RedshiftResource, source: Query) -> None:
    sandbox.create_database("elsewhere")
    gate = Passed()
    redshift = RedshiftResource(redshift.settings, gate)
    sessions = "SELECT datname FROM pg_stat_activity WHERE usename = 'qupersync_reader' AND datname = 'elsewhere'"
    try:
        with redshift.session("elsewhere") as session:
            assert session.rows("SELECT current_database()::varchar(9)")[0][0] == "elsewhere"
            assert source(sessions) == [("elsewhere",)]
        with redshift.session(redshift.settings.database), redshift.session():
            assert gate.logins == [("elsewhere", False), *2 * [("redshift", True)]]
        for _ in range(100):
            if not (left := source(sessions)):
                break
            time.sleep(0.05)
        assert left == []
    finally:
        with closing(sandbox.connect_quper()) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("DROP DATABASE elsewhere WITH (FORCE)")
