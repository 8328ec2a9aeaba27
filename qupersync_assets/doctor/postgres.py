"""The doctor's look at PostgreSQL: login, version, clock, rights, and the version of the schema."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import sqlalchemy as sa

from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.core.sql import quote_identifier
from qupersync_assets.doctor.report import Finding, clock
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import UPGRADABLE, VERSION_TABLE, read_version, tables
from qupersync_assets.spec import SCHEMA

# https://www.postgresql.org/support/versioning/: older ones get no fixes any more.
OLDEST = 14
_TABLE_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")

_SERVER = """
SELECT current_setting('server_version_num')::int / 10000, current_setting('server_version'),
       clock_timestamp(), pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool,
       current_setting('server_encoding'), current_user, current_database(),
       has_database_privilege(current_database(), 'TEMPORARY'),
       has_database_privilege(current_database(), 'CREATE'),
       n.oid IS NOT NULL, has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE'),
       (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = ANY (:names))
FROM (SELECT to_regnamespace(:schema)::oid AS oid) AS n"""
_TABLES = """
SELECT c.relname, r.name FROM pg_class c CROSS JOIN unnest(CAST(:rights AS text[])) AS r (name)
WHERE c.relnamespace = to_regnamespace(:schema) AND c.relname = ANY (:names)
  AND NOT has_table_privilege(c.oid, r.name) AND (r.name = 'SELECT' OR c.relname <> :version_table)
ORDER BY c.relname"""


def examine(postgres: PostgresResource) -> Iterator[Finding]:
    """All findings about PostgreSQL; after a login that fails there is one only."""
    login = f"{postgres.user} at {postgres.host}:{postgres.port}, database {postgres.database}"
    names = {
        "schema": SCHEMA,
        "version_table": VERSION_TABLE,  # is only read
        "rights": list(_TABLE_RIGHTS),
        "names": [VERSION_TABLE, *(table.name for table in tables())],
    }
    try:
        before = datetime.now(UTC)
        with postgres.transaction() as connection:
            server = connection.execute(sa.text(_SERVER), names).one()
            after = datetime.now(UTC)
            forbidden = connection.execute(sa.text(_TABLES), names).all()
    except SyncError as error:
        yield Finding("postgres", "login", login, redact(str(error)))
        return
    major, version, now, is_read_only, encoding, user, database, temporary, create, *schema = server
    yield Finding("postgres", "login", login)
    upgrade = f"Upgrade this server to PostgreSQL {OLDEST} or later."
    yield Finding("postgres", "version", f"PostgreSQL {version}", None if major >= OLDEST else upgrade)
    yield clock("postgres", before, now, after, "Set the clocks of that server and of this machine (NTP).")
    yield Finding(
        "postgres",
        "writing",
        "read only" if is_read_only else "allowed",
        "Name the primary server in POSTGRES_HOST, or SET default_transaction_read_only = off."
        if is_read_only
        else None,
    )
    yield Finding(
        "postgres",
        "encoding",
        encoding,
        None if encoding == "UTF8" else "Create the database anew WITH ENCODING 'UTF8'.",
    )
    grantee, on = quote_identifier(user), quote_identifier(database)
    yield Finding(
        "postgres",
        "temporary tables",
        "allowed" if temporary else "not allowed",
        None if temporary else f"As its owner: GRANT TEMPORARY ON DATABASE {on} TO {grantee};",
    )
    exists, usage, create_tables, present = schema
    if exists and usage and VERSION_TABLE not in {table for table, _ in forbidden}:
        yield _version(postgres)
    if exists:
        # Nothing is created where everything is: see deploy/sql/postgres.sql.
        needed = {"USAGE": usage, "CREATE": create_tables or present == len(names["names"])}
        missing = ", ".join(right for right, held in needed.items() if not held)
        remedy = f"As its owner: GRANT {missing} ON SCHEMA {SCHEMA} TO {grantee};" if missing else None
        yield Finding("postgres", f"schema {SCHEMA}", "not usable" if missing else "usable", remedy)
    else:
        remedy = None if create else f"As its owner: GRANT CREATE ON DATABASE {on} TO {grantee};"
        yield Finding("postgres", f"schema {SCHEMA}", "not there yet, the first run creates it", remedy)
    lacking: dict[str, list[str]] = {}
    for table, right in forbidden:
        lacking.setdefault(table, []).append(right)
    for table, rights in lacking.items():
        statement = f"GRANT {', '.join(rights)} ON {SCHEMA}.{table} TO {grantee};"
        yield Finding("postgres", f"table {table}", "not all rights", f"As its owner: {statement}")


def _version(postgres: PostgresResource) -> Finding:
    try:
        found = read_version(postgres)
    except SyncError as error:
        return Finding("postgres", "schema version", "unknown", redact(str(error)))
    is_migrated_by_syncs = postgres.auto_migrate and found.state in UPGRADABLE
    remedy = None if is_migrated_by_syncs else found.remedy or None
    return Finding("postgres", "schema version", f"{found.version or 'none'} of {found.newest}", remedy)
