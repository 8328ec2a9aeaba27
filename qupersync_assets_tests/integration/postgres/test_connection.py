"""Set-ups that need no support: harmless settings of a role, odd passwords, IPv6, and several hosts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from qupersync_assets.core.environment import load_env_file
from qupersync_assets.postgres.connection import URL
from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.server.postgres_server import PostgresServer
from qupersync_assets.settings import Settings
from qupersync_assets_tests.support.integration import Command, Query, Sync

HARMLESS = {
    "search_path": "dagster",
    "work_mem": "64kB",
    "statement_timeout": "60s",
    "lock_timeout": "30s",
    "idle_session_timeout": "1s",
    "idle_in_transaction_session_timeout": "30s",
    "synchronous_commit": "off",
    "jit": "on",
    "jit_above_cost": "0",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "client_min_messages": "debug1",
    "default_statistics_target": "1",
    "row_security": "off",
    "check_function_bodies": "off",
    "default_text_search_config": "pg_catalog.german",
    "plan_cache_mode": "force_generic_plan",
    "application_name": "other",
    "backslash_quote": "off",
    "xmloption": "document",
    "lc_numeric": "C",
}
PASSWORDS = [
    *(
        "p@ss:w/rd",
        "%41%",
        "$HOME${x}$(y)",
        "'single'",
        '"double"',
        "back\\slash",
        "#comment",
        "a b",
        " lead",
        "trail ",
    ),
    *("漢字é", "?a=b&c=d", "[::1]", "{0}", "+plus+", "tab\tinside", "~`!^*()", "😀", "None"),
]


@pytest.fixture
def role(target: Query, environment: dict[str, str]) -> Iterator[Query]:
    """Runs statements about POSTGRES_USER, which is as before after the test."""
    yield target
    target("ALTER ROLE qupersync RESET ALL; DROP SCHEMA IF EXISTS dagster CASCADE")
    target("ALTER ROLE qupersync PASSWORD %s", [environment["POSTGRES_PASSWORD"]])


def test_harmless_settings_of_the_role_change_nothing(
    role: Query, sync: Sync, dagster_home: Path, qupersync: Command, filled: Sandbox
) -> None:
    role("CREATE SCHEMA dagster AUTHORIZATION qupersync")
    for name, value in HARMLESS.items():
        role(f"ALTER ROLE qupersync SET {name} = {value if name == 'search_path' else repr(value)}")
    assert sync().success
    assert role("SELECT DISTINCT status FROM quper.sync_logs") == [("success",)]
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        run = instance.create_run_for_job(dg.job(name="some")(lambda: None))
        assert [found.run_id for found in instance.get_runs()] == [run.run_id]
    assert role("SELECT count(*) FROM dagster.runs") == [(1,)]  # where the role's path leads
    assert qupersync("doctor").code == 0


@pytest.mark.parametrize("password", PASSWORDS)
def test_an_odd_password_in_a_file_reaches_both_connections(
    role: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    role("ALTER ROLE qupersync PASSWORD %s", [password])
    file = tmp_path / "odd.env"
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    file.write_text(f"POSTGRES_PASSWORD='{quoted}'\n", "utf-8")
    monkeypatch.setenv("POSTGRES_PASSWORD", "")
    load_env_file(file)
    for engine in (postgres_resource(Settings.load()).engine(), sa.create_engine(URL)):
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT session_user")) == "qupersync"


def test_the_first_host_that_answers_is_used(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_HOST", f"127.0.0.1:1, 127.0.0.1:{environment['POSTGRES_PORT']} \n")
    for engine in (postgres_resource(Settings.load()).engine(), sa.create_engine(URL)):
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT inet_server_port()")) == int(environment["POSTGRES_PORT"])


def has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_is_used_by_both_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PostgresServer(tmp_path / "server", {"listen_addresses": "::1,127.0.0.1"}) as server:
        values = {"PORT": server.port, "DATABASE": "postgres", "USER": server.user, "PASSWORD": server.password}
        for name, value in values.items():
            monkeypatch.setenv(f"POSTGRES_{name}", str(value))
        for host in ("::1", "[::1]", f"[::1]:{server.port}"):
            monkeypatch.setenv("POSTGRES_HOST", host)
            for engine in (postgres_resource(Settings.load()).engine(), sa.create_engine(URL)):
                with engine.connect() as connection:
                    assert connection.scalar(sa.text("SELECT host(inet_server_addr())")) == "::1"
