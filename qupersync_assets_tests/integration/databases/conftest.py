"""A cluster of three databases: redshift, sales, and one whose name needs quotes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql

from qupersync_assets.sandbox import Sandbox
from qupersync_assets_tests.support.integration import Materialize, Query

QUOTED = 'Größe "EU" 1'
DATABASES = ("redshift", "sales", QUOTED)
VIEWS = ("svv_table_info", "svv_columns", "pg_attribute", "pg_class", "pg_namespace")
Fill = Callable[..., None]


@pytest.fixture(scope="package")
def databases(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox with the three databases."""
    for name in DATABASES[1:]:
        sandbox.create_database(name)
    yield sandbox
    for name in DATABASES[1:]:
        drop(sandbox, name)


def drop(sandbox: Sandbox, name: str) -> None:
    """Drop a database, and end the sessions in it."""
    administer(sandbox, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


def administer(sandbox: Sandbox, statement: str, name: str) -> None:
    """Run a statement about a database as superuser."""
    with closing(psycopg2.connect(sandbox.server.dsn("postgres"))) as connection:
        connection.autocommit = True
        connection.cursor().execute(sql.SQL(statement).format(sql.Identifier(name)))


def run_in(sandbox: Sandbox, database: str, statement: str, parameters: Any = None) -> None:
    """Run a statement in one of the databases as superuser."""
    with closing(sandbox.connect_redshift(database)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters)


@pytest.fixture
def fill(databases: Sandbox, environment: dict[str, str]) -> Fill:
    """Replaces the tables of a database; each has one column, and its number as its OID."""

    def fill(database: str, **tables: int) -> None:
        names, oids = list(tables), list(tables.values())
        run_in(
            databases,
            database,
            f"TRUNCATE {', '.join(VIEWS)}; INSERT INTO pg_namespace VALUES (9, 's');"
            'INSERT INTO svv_table_info ("database", "schema", table_id, "table")'
            " SELECT %(d)s, 's', id, name FROM unnest(%(o)s::int[], %(n)s::text[]) AS u (id, name);"
            "INSERT INTO pg_class SELECT id, name, 9, 'r' FROM unnest(%(o)s::int[], %(n)s::text[]) AS u (id, name);"
            "INSERT INTO pg_attribute (attrelid, attname, attnum, attisdropped)"
            " SELECT id, 'c', 1, false FROM unnest(%(o)s::int[]) AS u (id);"
            "INSERT INTO svv_columns (table_catalog, table_schema, table_name, column_name)"
            " SELECT %(d)s, 's', name, 'c' FROM unnest(%(n)s::text[]) AS u (name)",
            {"d": database, "n": names, "o": oids},
        )

    for name in DATABASES:
        fill(name)
    return fill


@pytest.fixture
def present(target: Query) -> Callable[[], set[tuple[str, str]]]:
    """(database, table) of the rows that are not marked; both tables must agree."""

    def present() -> set[tuple[str, str]]:
        tables = set(target("SELECT database, table_name FROM quper.table_stats_current"))
        assert tables == set(target("SELECT table_catalog, table_name FROM quper.column_stats_current"))
        return tables

    return present


@pytest.fixture
def sync_both(materialize: Materialize) -> Callable[[], Any]:
    """Syncs table_stats and column_stats, in no particular order."""

    def run() -> Any:
        return materialize("table_stats", "column_stats")

    return run


@pytest.fixture
def without_connect(databases: Sandbox) -> Iterator[Callable[[str], None]]:
    """Takes the privilege to connect to a database from the reader, until the test ends."""
    revoked: list[str] = []

    def revoke(name: str) -> None:
        administer(databases, "REVOKE CONNECT ON DATABASE {} FROM qupersync_reader", name)
        revoked.append(name)

    yield revoke
    for name in revoked:
        with suppress(psycopg2.Error):
            administer(databases, "GRANT CONNECT ON DATABASE {} TO qupersync_reader", name)
