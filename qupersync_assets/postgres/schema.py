"""The schema quper: a table per sync job, daily histories, bookkeeping tables, those of findings, and their version.

Alembic runs the migrations in migrations/versions/ and records the version in quper.schema_version. A table
that no migration creates is created from its spec. Comments and views follow the specs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateSchema

from qupersync_assets.core.errors import DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE, UNDEFINED_TABLE, ErrorClass, SyncError
from qupersync_assets.core.retries import call_with_retries
from qupersync_assets.core.sql import quote_identifier, quote_literal
from qupersync_assets.postgres.cluster_connections import CLUSTER_CONNECTIONS
from qupersync_assets.postgres.daily_history import SNAPSHOT_DAYS
from qupersync_assets.postgres.health_tables import HEALTH_TABLES
from qupersync_assets.postgres.health_views import HEALTH_VIEWS
from qupersync_assets.postgres.query_sums import QUERY_SUMS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.skipped_rows import SKIPPED_ROWS
from qupersync_assets.postgres.sync_logs import SYNC_LOGS
from qupersync_assets.postgres.sync_totals import SYNC_TOTALS
from qupersync_assets.spec import METADATA, SCHEMA, SyncSpec
from qupersync_assets.sync_jobs import all_specs, default_specs

# Alembic is imported by functions that migrate: it is slow to import.
if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = str(Path(__file__).with_name("migrations"))
# Not Alembic's default name: Dagster uses it, and finds it in any schema of the search path.
VERSION_TABLE = "schema_version"

# Other sessions that need the table queue behind a waiting migration, so it waits briefly.
LOCK_SECONDS = 3.0
# Upper limit of the delay before the first retry; it doubles with each retry.
RETRY_SECONDS = 1.0

# The key of the advisory lock that a process holds while it migrates; an arbitrary number.
_LOCK = 0x7175706572
PRESENT = f"ARRAY(SELECT tablename::text FROM pg_catalog.pg_tables WHERE schemaname = '{SCHEMA}')"
_TABLES = sa.text(f"SELECT {PRESENT}")
_VERSION_AND_TABLES = sa.text(f"SELECT (SELECT version_num FROM {SCHEMA}.{VERSION_TABLE}), {PRESENT}")
_COMMENTS = sa.text(
    "SELECT c.relname, coalesce(a.attname, ''), d.description FROM pg_description d "
    "JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass "
    "LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0 "
    f"WHERE c.relnamespace = '{SCHEMA}'::regnamespace"
)
# Roles besides the owner that may write the version, for example by default privileges of the schema.
_WRITERS = sa.text(
    "SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END "
    "FROM pg_class c, aclexplode(c.relacl) a WHERE a.grantee <> c.relowner AND a.privilege_type <> 'SELECT' "
    f"AND c.oid = '{SCHEMA}.{VERSION_TABLE}'::regclass AND pg_has_role(c.relowner, 'USAGE')"
)
_VERSION_TABLE_OPTIONS = {"version_table": VERSION_TABLE, "version_table_schema": SCHEMA}


class VersionState(StrEnum):
    """How the version of a schema relates to the versions that this code knows."""

    CURRENT = "current"
    NONE = "none"
    OLDER = "older"
    TOO_OLD = "too old"
    NEWER = "newer"


UPGRADABLE = (VersionState.CURRENT, VersionState.NONE, VersionState.OLDER)


@dataclass(frozen=True)
class SchemaVersion:
    """The version of the schema in a database."""

    version: str | None  # as recorded
    newest: str  # the version that this code needs
    state: VersionState
    missing: tuple[str, ...]  # tables that this code needs and the schema lacks

    @property
    def remedy(self) -> str:
        """How to get a complete schema of the newest version, as one sentence; empty if there is one."""
        if self.state is VersionState.NEWER:
            return "Upgrade QuperSync."
        if self.state is VersionState.TOO_OLD:
            oldest = versions()[0]
            return (
                f"Only version {oldest} and later can be upgraded: upgrade to {oldest} with an earlier QuperSync. "
                f"If the rows are not needed, DROP SCHEMA {SCHEMA} CASCADE; the next sync creates it again."
            )
        return "" if self.state is VersionState.CURRENT and not self.missing else "Run `qupersync migrate`."

    def error(self, reason: str = "") -> SyncError:
        """Return an error that names the version, the missing tables, the reason and the remedy."""
        found = f"is at version {self.version}" if self.version else "has no version"
        needed = f"; this QuperSync needs {self.newest}" if self.version != self.newest else ""
        text = f"The schema {SCHEMA} {found}{needed}."
        text += f" Missing tables: {', '.join(self.missing)}." if self.missing else ""
        text += f" {reason}." if reason else ""
        return SyncError(f"{text} {self.remedy}", ErrorClass.FATAL)


def check_version(version: str | None, present: Collection[str], specs: Sequence[SyncSpec] = ()) -> SchemaVersion:
    """Return how a recorded version relates to the versions that this code knows, and which tables are missing; those
    of `specs` are needed too."""
    oldest, *_, newest = known = versions()
    needed = {table.name for table in tables(specs)}
    if version == newest:
        state = VersionState.CURRENT
    elif version in known:
        state = VersionState.OLDER
    elif version is None:
        # Tables without a version are older than the baseline.
        state = VersionState.TOO_OLD if needed.intersection(present) else VersionState.NONE
    else:
        state = VersionState.TOO_OLD if version < oldest else VersionState.NEWER
    return SchemaVersion(version, newest, state, tuple(sorted(needed.difference(present))))


def read_version(postgres: PostgresResource, specs: Sequence[SyncSpec] = ()) -> SchemaVersion:
    """Return the version of the schema, which needs the tables of `specs` too; if there is one, this costs one
    statement.

    Raises:
        SyncError: PostgreSQL cannot be reached, or the user may not read the schema.
    """
    try:
        with postgres.transaction() as connection:
            version, present = connection.execute(_VERSION_AND_TABLES).one()
    except SyncError as error:
        if error.sqlstate != UNDEFINED_TABLE:
            raise
        with postgres.transaction() as connection:
            version, present = None, connection.execute(_TABLES).scalar_one()
        if VERSION_TABLE in present:  # another process has created the schema between the two statements
            return read_version(postgres, specs)
    return check_version(version, present, specs)


def tables(specs: Sequence[SyncSpec] = ()) -> list[sa.Table]:
    """Return the tables that every schema has, and those of `specs`: an optional job gets its table when it is first
    on."""
    jobs = (*default_specs(), *specs)
    of_jobs = dict.fromkeys(table for spec in jobs for table in spec.tables)
    own = (SYNC_LOGS, SYNC_TOTALS, SKIPPED_ROWS, SNAPSHOT_DAYS, CLUSTER_CONNECTIONS)
    return [*own, *HEALTH_TABLES, *QUERY_SUMS, *of_jobs]


def versions() -> list[str]:
    """Return the versions that this code knows, oldest first; it needs the last one."""
    # Alembic would import all files to list them.
    return sorted(path.name[:4] for path in Path(MIGRATIONS, "versions").glob("[0-9]*.py"))


def ensure_schema(postgres: PostgresResource, specs: Sequence[SyncSpec] = ()) -> None:
    """Migrate the schema if it is not current or lacks a table, also one of `specs`; if there is nothing to do, this
    costs one statement.

    Raises:
        SyncError: as for `migrate`; or there is something to do and SYNC_AUTO_MIGRATE is false.
    """
    found = read_version(postgres, specs)
    if not found.remedy:
        return
    if found.state not in UPGRADABLE:
        raise found.error()
    if not postgres.auto_migrate:
        raise found.error("SYNC_AUTO_MIGRATE is false")
    migrate(postgres, specs)


def migrate(postgres: PostgresResource, specs: Sequence[SyncSpec] = ()) -> tuple[str | None, str]:
    """Bring the schema to the newest version in one transaction, whatever SYNC_AUTO_MIGRATE says, with the tables of
    `specs`; return the versions before and after.

    Several processes may call it at the same time: one migrates, the others wait and find a current schema.

    Raises:
        SyncError: the schema is too old or newer than this code; PostgreSQL cannot be reached; the user may
            not change the schema; or five attempts failed because other sessions lock a table. The schema
            is unchanged.
    """
    return call_with_retries(
        partial(_migrate, postgres, specs),
        lambda e: getattr(e, "sqlstate", None) in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED),
        RETRY_SECONDS,
    )


def _migrate(postgres: PostgresResource, specs: Sequence[SyncSpec]) -> tuple[str | None, str]:
    from alembic import command
    from alembic.migration import MigrationContext

    with postgres.transaction() as connection:
        # Set no lock_timeout before: another process holds this lock as long as it migrates.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        # https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
        connection.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_SECONDS * 1000:.0f}"))
        context = MigrationContext.configure(connection, opts=_VERSION_TABLE_OPTIONS)
        present = connection.execute(_TABLES).scalar_one()
        found = check_version(context.get_current_revision(), present)
        if found.state not in UPGRADABLE:
            raise found.error()
        # IF NOT EXISTS would need CREATE on the database even if the schema exists.
        if not sa.inspect(connection).has_schema(SCHEMA):
            connection.execute(CreateSchema(SCHEMA))
        command.upgrade(alembic_config(connection), found.newest)
        for role in connection.scalars(_WRITERS).all():  # migrations belong to the owner
            connection.execute(sa.text(f"REVOKE ALL ON {SCHEMA}.{VERSION_TABLE} FROM {role}"))
            connection.execute(sa.text(f"GRANT SELECT ON {SCHEMA}.{VERSION_TABLE} TO {role}"))
        present = connection.execute(_TABLES).scalar_one()
        missing = [table for table in tables(specs) if table.name not in present]
        METADATA.create_all(connection, tables=missing, checkfirst=False)
        create_views(connection, {*present, *(table.name for table in missing)})
        return found.version, found.newest


def create_views(connection: sa.Connection, present: Collection[str]) -> None:
    """Create or replace the views of the jobs whose tables are `present`, and those of findings; set comments of
    views and tables."""
    specs = [spec for spec in all_specs() if spec.table.name in present]
    views = [*(view for spec in specs for view in spec.all_views), *HEALTH_VIEWS]
    for view in views:
        connection.execute(sa.text(f"CREATE OR REPLACE VIEW {SCHEMA}.{view.name} AS {view.query}"))
    commented = {(name, column): text for name, column, text in connection.execute(_COMMENTS)}
    wanted: list[tuple[str, str, str, Mapping[str, str]]] = [
        ("TABLE", table.name, str(table.comment), _comments(table)) for table in tables(specs)
    ]
    wanted += [("VIEW", view.name, view.comment, view.columns) for view in views]
    changes = []
    for kind, name, comment, columns in wanted:
        if commented.get((name, "")) != comment:
            changes.append(f"COMMENT ON {kind} {SCHEMA}.{name} IS {quote_literal(comment)}")
        for column, text in columns.items():
            if commented.get((name, column)) != text:
                place = f"{SCHEMA}.{name}.{quote_identifier(column)}"
                changes.append(f"COMMENT ON COLUMN {place} IS {quote_literal(text)}")
    if changes:  # hundreds for a new schema
        cursor: Any = connection.connection.cursor()
        cursor.execute("; ".join(changes))  # without parameters: % is no placeholder


def _comments(table: sa.Table) -> dict[str, str]:
    return {column.name: column.comment for column in table.c if column.comment}


def alembic_config(connection: sa.Connection) -> Config:
    """Return Alembic's configuration for a connection; env.py receives its attributes."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection, **_VERSION_TABLE_OPTIONS})
    config.set_main_option("script_location", MIGRATIONS.replace("%", "%%"))  # else a reference to an option
    return config
