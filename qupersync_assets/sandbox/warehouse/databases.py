"""The databases of the sandbox: `redshift` with the documented system views, and the empty target."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg2
from psycopg2 import sql

from qupersync_assets.sandbox.server.postgres_server import PostgresServer
from qupersync_assets.sandbox.warehouse.access import ORDINARY, READER, SCHEMA, create_access, grant_defaults
from qupersync_assets.sandbox.workload.traffic import CLIENTS
from qupersync_assets.spec.redshift_views import documented_views

OWNER = "qupersync"

# The columns of two catalogs that queries over pg_attribute need; AWS documents no others.
_CATALOGS = {
    "pg_class": [("oid", "oid"), ("relname", "name"), ("relnamespace", "oid"), ("relkind", '"char"')],
    "pg_namespace": [("oid", "oid"), ("nspname", "name")],
}

# Made by create_access from PostgreSQL's catalog.
_VIEWS = ("svv_redshift_databases",)

# Not documented by AWS, but many scripts read it. In the sandbox it lists connections.
_USER_ACTIVITY = """
CREATE OR REPLACE VIEW redshift.svl_user_activity AS
SELECT event, record_time, session_id, database_name, user_name, application_name, global_session_id
FROM redshift.sys_connection_log
"""

_FUNCTIONS = """
CREATE OR REPLACE FUNCTION redshift.getdate() RETURNS timestamp without time zone LANGUAGE sql STABLE
    AS $$ SELECT statement_timestamp()::timestamp $$; -- in the time zone of the session
CREATE OR REPLACE FUNCTION redshift.version() RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT 'PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 '
                 '(Red Hat 3.4.2-6.fc3), Redshift 1.0.117891' $$;
CREATE OR REPLACE FUNCTION redshift.format_encoding(integer) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT (ARRAY['none', 'bytedict', 'delta', 'delta32k', 'lzo', 'mostly8', 'mostly16', 'mostly32',
                        'runlength', 'text255', 'text32k', 'zstd', 'az64'])[$1 + 1] $$;
-- PostgreSQL's own rtrim reads a padded text character by character, thousands of them per row.
CREATE OR REPLACE FUNCTION redshift.left_part(character, integer, integer) RETURNS text
    LANGUAGE internal IMMUTABLE STRICT AS 'text_substr';
CREATE OR REPLACE FUNCTION redshift.rtrim(character) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT redshift.left_part($1, 1, char_length($1)) $$;
"""


def create_warehouse(
    server: PostgresServer,
    reader_password: str,
    owner_password: str,
    database: str = "redshift",
    target: str = "quper",
    user_activity: bool = True,
    cluster: str = "redshift",
    shared: bool = False,
) -> None:
    """Create the two databases and their roles where they are missing, and set the passwords.

    Args:
        server: the PostgreSQL server.
        reader_password: password of `qupersync_reader`, which may read all views, and of
            `qupersync_ordinary`, a user without grants.
        owner_password: password of `qupersync`, the owner of the target database.
        database: simulates Redshift, with a table in schema `redshift` for each documented view.
        target: the target database, created empty.
        user_activity: create a view svl_user_activity.
        cluster: the cluster of `database`, which lists the databases of its cluster.
        shared: list it as a database of a datashare.
    """
    with contextlib.closing(psycopg2.connect(server.dsn("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            _create_role(cursor, READER, reader_password)
            _create_role(cursor, ORDINARY, reader_password)
            _create_role(cursor, OWNER, owner_password)
            _create_database(cursor, database, server.user)
            _create_database(cursor, target, OWNER)
            # Unqualified names such as pg_class refer to the tables that simulate Redshift's catalog.
            statement = "ALTER DATABASE {0} SET search_path = redshift, pg_catalog; COMMENT ON DATABASE {0} IS {1}"
            comment = sql.Literal(f"cluster {cluster}{', shared' if shared else ''}")
            cursor.execute(sql.SQL(statement).format(sql.Identifier(database), comment))
    with (
        contextlib.closing(psycopg2.connect(server.dsn(database))) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        _create_relations(cursor, user_activity)
        users = {client.user_name: client.user_id for client in CLIENTS}
        create_access(cursor, database, documented_views(), users)


def create_user(connection: Any, name: str, password: str) -> None:
    """Create a login role without grants in the warehouse of `connection`."""
    with connection, connection.cursor() as cursor:
        _create_role(cursor, name, password)
        grant_defaults(cursor, connection.info.dbname, name, documented_views())


def _create_role(cursor: Any, name: str, password: str) -> None:
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
    verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
    cursor.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(name), sql.Literal(password)))


def _create_database(cursor: Any, name: str, owner: str) -> None:
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
    if not cursor.fetchone():
        cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner)))
    for statement in (
        "ALTER DATABASE {database} SET timezone = 'UTC'",
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC",
    ):
        cursor.execute(sql.SQL(statement).format(database=sql.Identifier(name)))


def _create_relations(cursor: Any, user_activity: bool) -> None:
    schema = sql.Identifier(SCHEMA)
    cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
    relations = {view: facts["columns"] for view, facts in documented_views().items() if view not in _VIEWS} | _CATALOGS
    for relation, columns in relations.items():
        definitions = [
            sql.SQL("{} {}").format(sql.Identifier(name.lower()), sql.SQL(_column_type(type_name)))
            for name, type_name in columns
        ]
        cursor.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {}.{} ({})").format(
                schema, sql.Identifier(relation), sql.SQL(", ").join(definitions)
            )
        )
    cursor.execute(_FUNCTIONS)
    cursor.execute(_USER_ACTIVITY if user_activity else "DROP VIEW IF EXISTS redshift.svl_user_activity")


def _column_type(documented: str) -> str:
    # AWS documents no length, but character(1) is too short for the values.
    return "bpchar" if documented in ("character", "char") else documented
