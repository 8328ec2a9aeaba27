"""Settings that a role, a database or the environment gives a session change no value, here and in Dagster's storage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
import sqlalchemy as sa

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.postgres.connection import PINNED, URL
from qupersync_assets.postgres.resource import PostgresResource, postgres_resource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.settings import Settings
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.expected_rows import oracle
from qupersync_assets_tests.support.integration import Command, Query, Sync

# Each changes values, or how statements behave.
OTHERS = {
    "client_encoding": "LATIN1",
    "TimeZone": "Asia/Tokyo",
    "default_transaction_isolation": "serializable",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "standard_conforming_strings": "off",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "exit_on_error": "on",
}
NAMES = ["naïve", "漢字", "Ωmega€"]


Others = Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=["ROLE qupersync", "DATABASE quper", "environment"])
def others(request: pytest.FixtureRequest, target: Query, environment: dict[str, str]) -> Others:
    """Gives them to new sessions in a `with` block; a plain session has them."""

    @contextmanager
    def set_in_environment() -> Iterator[None]:
        own = {name: value for name, value in OTHERS.items() if name.islower() and "encoding" not in name}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGCLIENTENCODING", OTHERS["client_encoding"])
            patch.setenv("PGTZ", OTHERS["TimeZone"])
            patch.setenv("PGOPTIONS", " ".join(f"-c {name}={value}" for name, value in own.items()))
            yield

    @contextmanager
    def set_in_catalog() -> Iterator[None]:
        for name, value in OTHERS.items():
            target(f"ALTER {request.param} SET {name} = {value if name == 'DateStyle' else repr(value)}")
        try:
            yield
        finally:
            target(f"ALTER {request.param} RESET ALL")

    @contextmanager
    def checked() -> Iterator[None]:
        with set_in_environment() if request.param == "environment" else set_in_catalog():
            with closing(plain_session(environment)) as plain, plain.cursor() as cursor:
                cursor.execute("SELECT current_setting('client_encoding'), current_setting('TimeZone')")
                assert cursor.fetchone() == ("LATIN1", "Asia/Tokyo")
            yield

    return checked


def plain_session(environment: dict[str, str]) -> Any:
    names = {"host": "HOST", "port": "PORT", "dbname": "DATABASE", "user": "USER", "password": "PASSWORD"}
    return psycopg2.connect(**{name: environment[f"POSTGRES_{part}"] for name, part in names.items()})


def test_both_connections_pin_what_changes_meaning(others: Others, bare: PostgresResource) -> None:
    with others():
        for engine in (bare.engine(), sa.create_engine(URL)):
            with engine.connect() as connection:
                shown = {name: connection.scalar(sa.text(f"SHOW {name}")) for name in PINNED}
            assert shown == PINNED


def test_rows_equal_their_source(others: Others, filled: Sandbox, sync: Sync, source: Query, target: Query) -> None:
    for name in NAMES:
        source(
            "UPDATE sys_query_history SET query_text = %s WHERE query_id = "
            "(SELECT min(query_id) FROM sys_query_history WHERE query_text <> ALL (%s))",
            [name, NAMES],
        )
    source(
        "UPDATE svv_table_info SET \"table\" = 'naïve 漢字 €' WHERE table_id = (SELECT min(table_id) FROM svv_table_info)"
    )
    with others():
        assert sync().success
    for spec in default_specs():
        expected, actual = oracle(spec, source, target)
        assert actual == expected and actual, spec.sync_job_id


def test_times_of_dagster_are_right(others: Others, dagster_home: Path) -> None:
    with others(), dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        before = time.time()
        instance.create_run_for_job(dg.job(name="some")(lambda: None))
        (record,) = instance.get_run_records()
        assert abs(record.create_timestamp.timestamp() - before) < 60
        since = datetime.fromtimestamp(before - 60, UTC)
        assert len(instance.get_runs(dg.RunsFilter(created_after=since))) == 1
        assert not instance.get_runs(dg.RunsFilter(created_before=since))


# Objects that hide those of the system, or temporary tables, if a path names their schema before.
HIDING = """
CREATE SCHEMA hiding AUTHORIZATION qupersync;
CREATE FUNCTION hiding.md5(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'hidden' $$;
CREATE FUNCTION hiding.count(text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 0::bigint $$;
CREATE FUNCTION hiding.now() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT '2001-01-01'::timestamptz $$;
CREATE FUNCTION hiding.differs(text, text) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT false $$;
CREATE OPERATOR hiding.= (FUNCTION = hiding.differs, LEFTARG = text, RIGHTARG = text);
CREATE TABLE hiding.pg_class AS SELECT * FROM pg_catalog.pg_class LIMIT 0;
"""


def test_the_path_of_the_role_hides_nothing(
    filled: Sandbox, sync: Sync, source: Query, target: Query, dagster_home: Path, qupersync: Command
) -> None:
    # Dagster's storage of earlier tests would be found instead of a new one.
    target("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION pg_database_owner")
    target(HIDING + "ALTER ROLE qupersync SET search_path = hiding, public, pg_catalog, pg_temp")
    try:
        for _ in range(2):  # a first load and a repeat
            assert sync().success
        for spec in default_specs():
            expected, actual = oracle(spec, source, target)
            assert actual == expected and actual, spec.sync_job_id
        with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
            run = instance.create_run_for_job(dg.job(name="some")(lambda: None))
            assert [found.run_id for found in instance.get_runs()] == [run.run_id]
        assert target("SELECT count(*) FROM hiding.runs") == [(1,)]
        (shown,) = (
            f["detail"]
            for f in qupersync("doctor", "--json").json["findings"]
            if f["what"] == "session" and f["side"] == "postgres"
        )
        assert shown.startswith('pinned: search_path pg_catalog, pg_temp, "hiding", "public"; ')
    finally:
        target("ALTER ROLE qupersync RESET search_path; DROP SCHEMA hiding CASCADE")


def test_a_database_in_another_encoding_is_refused(
    environment: dict[str, str], target: Query, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sandbox.connect_quper()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CREATE DATABASE western OWNER qupersync ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    monkeypatch.setenv("POSTGRES_DATABASE", "western")
    try:
        western = postgres_resource(Settings.load())
        words = r"western has the encoding LATIN1.*ENCODING 'UTF8'"
        with pytest.raises(SyncError, match=words) as refusal, western.transaction():
            pass
        assert refusal.value.error_class is ErrorClass.FATAL
    finally:
        with closing(sandbox.connect_quper()) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("DROP DATABASE western")
