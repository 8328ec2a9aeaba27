"""The schema quper: a table for each sync job, and the two that keep the books."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import CreateSchema

from qupersync_assets.postgres import PostgresResource
from qupersync_assets.skipped_rows import SKIPPED_ROWS
from qupersync_assets.spec import METADATA, SCHEMA
from qupersync_assets.sync_log import SYNC_LOGS
from qupersync_assets.syncs import all_specs

# Any number does, as long as every process takes the same one while it creates the schema.
_LOCK = 0x7175706572


def tables() -> list[sa.Table]:
    """Every table of the schema."""
    return [SYNC_LOGS, SKIPPED_ROWS, *(spec.table for spec in all_specs())]


def ensure_schema(postgres: PostgresResource) -> None:
    """Create the schema quper, and each of its tables that is missing.

    Raises:
        LoadError: PostgreSQL cannot be reached, or the user may not create them.
    """
    with postgres.transaction() as connection:
        present = set(
            connection.scalars(
                sa.text("SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = :schema"),
                {"schema": SCHEMA},
            )
        )
        missing = [table for table in tables() if table.name not in present]
        if missing:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            connection.execute(CreateSchema(SCHEMA, if_not_exists=True))
            METADATA.create_all(connection, tables=missing)
