"""Checks of PostgreSQL: login, server, privileges, and the version of the schema."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.core.sql import quote_identifier
from qupersync_assets.doctor.report import Finding, check_clock
from qupersync_assets.postgres.clusters import cluster_names
from qupersync_assets.postgres.connection import PINNED, is_pooled
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import UPGRADABLE, VERSION_TABLE, read_version, tables
from qupersync_assets.spec import SCHEMA, SyncSpec

# Older versions are not supported: https://www.postgresql.org/support/versioning/
OLDEST = 14
_TABLE_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")

_SERVER = """
SELECT current_setting('server_version_num')::int / 10000, current_setting('server_version'),
       clock_timestamp(), pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool,
       current_user, current_database(),
       has_database_privilege(current_database(), 'TEMPORARY'),
       has_database_privilege(current_database(), 'CREATE'),
       n.oid IS NOT NULL, has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE'),
       (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = ANY (:names))
FROM (SELECT to_regnamespace(:schema)::oid AS oid) AS n"""
# What role, database or environment set; TCP's settings are not theirs to set.
_GIVEN = """
SELECT name, reset_val FROM pg_settings WHERE name = ANY (:names) AND name NOT LIKE 'tcp%' ORDER BY name"""
_TABLES = """
SELECT c.relname, string_agg(p.name, ', ')
FROM pg_class c CROSS JOIN unnest(CAST(:privileges AS text[])) AS p (name)
WHERE c.relnamespace = to_regnamespace(:schema) AND c.relname = ANY (:names)
  AND NOT has_table_privilege(c.oid, p.name) AND (p.name = 'SELECT' OR c.relname <> :version_table)
GROUP BY c.relname ORDER BY c.relname"""


def examine(postgres: PostgresResource, specs: Sequence[SyncSpec], clusters: Sequence[str]) -> Iterator[Finding]:
    """Yield the findings about PostgreSQL with the tables of `specs` and rows of `clusters`; a failed login is the
    only finding."""
    settings = postgres.settings
    login = f"{settings.postgres_user} at {settings.postgres_endpoint}, database {settings.postgres_database}"
    names = [VERSION_TABLE, *(table.name for table in tables(specs))]
    parameters = {
        "schema": SCHEMA,
        "version_table": VERSION_TABLE,  # needs SELECT only
        "privileges": list(_TABLE_PRIVILEGES),
        "names": names,
    }
    try:
        before = datetime.now(UTC)
        with postgres.transaction() as connection:
            server = connection.execute(sa.text(_SERVER), parameters).one()
            after = datetime.now(UTC)
            forbidden = connection.execute(sa.text(_TABLES), parameters).all()
            given = connection.execute(sa.text(_GIVEN), {"names": list(PINNED)}).all()
            path = connection.scalar(sa.text("SHOW search_path"))
            session: Any = connection.connection.dbapi_connection
            pooled, encrypted = is_pooled(session), session.info.ssl_in_use
            used = f", now at {session.info.host}:{session.info.port}" if "," in settings.postgres_endpoint else ""
    except SyncError as error:
        yield Finding("postgres", "login", login, redact(str(error)))
        return
    major, version, now, is_read_only, user, database, temporary, create, *schema = server
    grantee, quoted_database = quote_identifier(user), quote_identifier(database)
    yield Finding("postgres", "login", f"{login}{used}, {'TLS' if encrypted else 'no TLS'} (sslmode {settings.tls})")
    yield Finding("postgres", "path", "through a pooler in session mode" if pooled else "no pooler")
    others = ", ".join(f"{name} {PINNED[name]} instead of {value}" for name, value in given if value != PINNED[name])
    yield Finding("postgres", "session", f"pinned: search_path {path}; {others or 'the server sets the same'}")
    upgrade = f"Upgrade this server to PostgreSQL {OLDEST} or later."
    yield _check("version", f"PostgreSQL {version}", major >= OLDEST, upgrade)
    ntp = "Synchronize the clocks of that server and of this machine (NTP)."
    yield check_clock("postgres", before, now, after, ntp)
    primary = "Set POSTGRES_HOST to the primary server, or SET default_transaction_read_only = off."
    yield _check("writing", "read only" if is_read_only else "allowed", not is_read_only, primary)
    grant = f"As its owner: GRANT TEMPORARY ON DATABASE {quoted_database} TO {grantee};"
    yield _check("temporary tables", "allowed" if temporary else "not allowed", temporary, grant)
    exists, usage, create_tables, present = schema
    if exists and usage and VERSION_TABLE not in {table for table, _ in forbidden}:
        yield _version(postgres, specs)
    if exists:
        # CREATE is needed only while a table is missing: see deploy/sql/postgres.sql.
        needed = {"USAGE": usage, "CREATE": create_tables or present == len(names)}
        missing = ", ".join(privilege for privilege, granted in needed.items() if not granted)
        grant = f"As its owner: GRANT {missing} ON SCHEMA {SCHEMA} TO {grantee};"
        yield _check(f"schema {SCHEMA}", "not usable" if missing else "usable", not missing, grant)
    else:
        grant = f"As its owner: GRANT CREATE ON DATABASE {quoted_database} TO {grantee};"
        yield _check(f"schema {SCHEMA}", "does not exist yet, the first run creates it", create, grant)
    if exists and usage and not forbidden:
        yield from _leftovers(postgres, clusters)
    for table, privileges in forbidden:
        grant = f"As its owner: GRANT {privileges} ON {SCHEMA}.{table} TO {grantee};"
        yield _check(f"table {table}", "privileges are missing", False, grant)


def _leftovers(postgres: PostgresResource, clusters: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding for each cluster that has rows and that no setting names; rows may be kept, so it is no fault."""
    for name in cluster_names(postgres):
        if name not in clusters:
            again = f"`qupersync clusters rename {name} NEW` if it has another name now"
            text = f"leftover: no setting names it. {again}, `qupersync clusters forget {name}`, or keep it"
            yield Finding("postgres", f"cluster {name}", text)


def _check(what: str, detail: str, ok: bool, remedy: str) -> Finding:
    return Finding("postgres", what, detail, None if ok else remedy)


def _version(postgres: PostgresResource, specs: Sequence[SyncSpec]) -> Finding:
    try:
        found = read_version(postgres, specs)
    except SyncError as error:
        return Finding("postgres", "schema version", "unknown", redact(str(error)))
    is_migrated_by_syncs = postgres.auto_migrate and found.state in UPGRADABLE
    remedy = None if is_migrated_by_syncs else found.remedy or None
    return Finding("postgres", "schema version", f"{found.version or 'none'} of {found.newest}", remedy)
