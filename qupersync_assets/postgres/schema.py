"""The schema quper: a table for each sync job, the two that keep the books, and the version they have.

What Alembic's revisions in migrations/versions/ make of a database is recorded in quper.schema_version. The
table of a job that no revision knows yet is created as its spec says; comments and views follow the specs.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy.schema import CreateSchema, SetColumnComment, SetTableComment

from qupersync_assets.core.errors import (
    DEADLOCK_DETECTED,
    LOCK_NOT_AVAILABLE,
    UNDEFINED_TABLE,
    ErrorClass,
    SyncError,
)
from qupersync_assets.core.retries import call_with_retries
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.skipped_rows import SKIPPED_ROWS
from qupersync_assets.postgres.sync_logs import SYNC_LOGS
from qupersync_assets.spec import METADATA, SCHEMA, SyncSpec
from qupersync_assets.sync_jobs import all_specs

MIGRATIONS = str(Path(__file__).with_name("migrations"))
# Not Alembic's own name for it, which Dagster looks for in whatever schema comes first.
VERSION_TABLE = "schema_version"

# Whoever reads a table while a migration waits for its lock waits too, behind it: hence not for long.
LOCK_SECONDS = 3.0
# The first retry after that waits up to so long, further ones up to twice as long each.
RETRY_SECONDS = 1.0

# Any number does, as long as every process takes the same one while it migrates the schema.
_LOCK = 0x7175706572

_STATE = sa.text(
    f"SELECT (SELECT version_num FROM {SCHEMA}.{VERSION_TABLE}), "
    f"ARRAY(SELECT tablename::text FROM pg_catalog.pg_tables WHERE schemaname = '{SCHEMA}')"
)


def tables() -> list[sa.Table]:
    """Every table of the schema."""
    return [SYNC_LOGS, SKIPPED_ROWS, *(spec.table for spec in all_specs())]


def versions() -> list[str]:
    """The versions that this code knows, oldest first; the last is the one it needs."""
    # Which Alembic would load all of them to tell.
    return sorted(path.name[:4] for path in Path(MIGRATIONS, "versions").glob("[0-9]*.py"))


def ensure_schema(postgres: PostgresResource) -> None:
    """Bring the schema up to date, and create each of its tables that is missing: `migrate`, if need be.

    If nothing is to be done, it costs one statement.

    Raises:
        SyncError: as for `migrate`; or something is to be done, and SYNC_AUTO_MIGRATE says not to.
    """
    version, present = state(postgres)
    needed = _needed(version)
    missing = sorted({table.name for table in tables()} - set(present))
    if version == needed and not missing:
        return
    if not postgres.auto_migrate:
        lacks = f" and lacks {', '.join(missing)}" if missing else ""
        raise SyncError(
            f"The schema {SCHEMA} has version {version or 'none'} of {needed}{lacks}, and SYNC_AUTO_MIGRATE "
            "is false: run `qupersync migrate`.",
            ErrorClass.FATAL,
        )
    migrate(postgres)


def state(postgres: PostgresResource) -> tuple[str | None, list[str]]:
    """The version of the schema, None if there is none, and its tables.

    Raises:
        SyncError: PostgreSQL cannot be reached, or does not let us look.
    """
    try:
        with postgres.transaction() as connection:
            version, present = connection.execute(_STATE).one()
            return version, present
    except SyncError as error:
        if error.sqlstate != UNDEFINED_TABLE:
            raise
        return None, []


def migrate(postgres: PostgresResource) -> tuple[str | None, str]:
    """Bring the schema to the newest version, in one transaction, whatever SYNC_AUTO_MIGRATE says.

    Of several processes that do it at once, one does it, and the others find it done.

    Returns:
        The version before, None if there was none, and the version after.

    Raises:
        SyncError: the version is one that only a newer QuperSync knows; or PostgreSQL cannot be reached, the
            user may not change the schema, or a table was locked by others, five times over. The schema is as
            it was before then.
    """
    return call_with_retries(
        partial(_migrate, postgres),
        lambda e: getattr(e, "sqlstate", None) in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED),
        RETRY_SECONDS,
    )


def _migrate(postgres: PostgresResource) -> tuple[str | None, str]:
    with postgres.transaction() as connection:
        # Before the lock_timeout, for this lock is held as long as another process migrates.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        # https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
        connection.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_SECONDS * 1000:.0f}"))
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "version_table_schema": SCHEMA}
        )
        before = context.get_current_revision()
        needed = _needed(before)
        # Not IF NOT EXISTS, which asks for CREATE on the database even if the schema is there.
        if not sa.inspect(connection).has_schema(SCHEMA):
            connection.execute(CreateSchema(SCHEMA))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, needed)
        METADATA.create_all(connection, tables=tables())
        _describe(connection)
        for spec in all_specs():
            if spec.kind == "snapshot":
                connection.execute(sa.text(current_view(spec)))
        return before, needed


def current_view(spec: SyncSpec) -> str:
    """The statement that makes the view of those rows of a snapshot that are in the source now."""
    # By its star a new column comes last in the view, as it does in the table.
    name = f"{spec.table.fullname}_current"
    return f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM {spec.table.fullname} WHERE removed_at IS NULL"


def _describe(connection: sa.Connection) -> None:
    """Give tables and columns the comments of the specs, where they differ."""
    inspector = sa.inspect(connection)
    for table in tables():
        if inspector.get_table_comment(table.name, SCHEMA)["text"] != table.comment:
            connection.execute(SetTableComment(table))
        comments = {c["name"]: c["comment"] for c in inspector.get_columns(table.name, SCHEMA)}
        for column in table.c:
            if comments[column.name] != column.comment:
                connection.execute(SetColumnComment(column))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    return config


def _needed(version: str | None) -> str:
    """The version that this code needs; a SyncError if it does not know the one that is there."""
    known = versions()
    if version is not None and version not in known:
        raise SyncError(
            f"The schema {SCHEMA} has version {version}, of a newer QuperSync; this one knows versions up to "
            f"{known[-1]}: upgrade QuperSync.",
            ErrorClass.FATAL,
        )
    return known[-1]
