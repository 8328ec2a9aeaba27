"""The catalog of a schema, schemas of older versions, and rows for all their tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command

from qupersync_assets.postgres import schema
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.spec import METADATA
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.integration import Query

# The whole definition of the schema except the order of columns, which no ALTER changes.
CATALOG = """
SELECT 'relation', c.relname, concat_ws(' ', c.relkind, c.relpersistence, c.reloptions, obj_description(c.oid, 'pg_class'))
FROM pg_class c WHERE c.relnamespace = 'quper'::regnamespace
UNION ALL
SELECT 'column', c.relname || '.' || a.attname, concat_ws(
    ' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attstorage,
    a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'quper'::regnamespace AND c.relkind <> 'i' AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid) || indisvalid
FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE c.relnamespace = 'quper'::regnamespace
UNION ALL
-- Since PostgreSQL 18 a NOT NULL is also a constraint; the columns above contain it, and its name does not matter.
SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) || convalidated
FROM pg_constraint WHERE connamespace = 'quper'::regnamespace AND contype <> 'n'
UNION ALL
SELECT 'sequence', seqrelid::regclass::text, concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax, seqcycle)
FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid WHERE c.relnamespace = 'quper'::regnamespace
"""
SCHEMA_0004 = Path(__file__).with_name("schema_0004.sql")
VALUES: dict[str, Callable[[int], object]] = {
    "text": lambda n: f"Started {n}",
    "jsonb": lambda n: json.dumps({"n": n}),
    "ARRAY": lambda n: [str(n)],
    "boolean": bool,
    "timestamp with time zone": lambda n: f"2024-01-0{n}T00:00:00Z",
    **dict.fromkeys(("integer", "bigint", "numeric"), lambda n: n),
}


def catalog(target: Query) -> dict[tuple[str, str], str]:
    """Return the definitions of all objects of the schema except the version table, by kind and name."""
    return {(kind, name): definition for kind, name, definition in target(CATALOG) if "schema_version" not in name}


def catalog_of_models(bare: PostgresResource, target: Query) -> dict[tuple[str, str], str]:
    """Return the catalog of a schema that is created from the models alone, and drop that schema."""
    target("CREATE SCHEMA quper AUTHORIZATION qupersync")
    METADATA.create_all(bare.engine(), tables=schema.tables())
    with bare.engine().begin() as connection:
        schema.create_views(connection, [spec.table.name for spec in default_specs()])
    found = catalog(target)
    target("DROP SCHEMA quper CASCADE")
    return found


def create_version(bare: PostgresResource, version: str) -> None:
    """Create the schema of a version by its migrations."""
    with bare.engine().begin() as connection:
        connection.execute(sa.schema.CreateSchema("quper"))
        command.upgrade(schema.alembic_config(connection), version)


def create_adopted(bare: PostgresResource) -> None:
    """Create the schema of version 0004 as the migrations before the baseline created it."""
    with bare.engine().begin() as connection:
        cursor: Any = connection.connection.cursor()
        cursor.execute(SCHEMA_0004.read_text("utf-8"))


def fill(target: Query) -> None:
    """Write two rows into each table: one with all values, and one with the required values only."""
    # The hash of an alert's event is part of the key, so it is required.
    columns = target(
        "SELECT table_name, column_name, data_type, "
        "column_name <> 'event' AND (is_nullable = 'YES' OR column_default IS NOT NULL) "
        "FROM information_schema.columns WHERE table_schema = 'quper' AND table_name <> 'schema_version' "
        "AND table_name = ANY (SELECT relname FROM pg_class WHERE relkind = 'r') AND is_generated = 'NEVER' AND is_identity = 'NO'"
    )
    for table in sorted({name for name, *_ in columns}):
        for n in (1, 2):
            row = {
                f'"{name}"': VALUES[type_](n)
                for owner, name, type_, optional in columns
                if owner == table and not (n == 2 and optional)
            }
            places = ", ".join(["%s"] * len(row))
            target(f"INSERT INTO quper.{table} ({', '.join(row)}) VALUES ({places})", list(row.values()))


def rows(target: Query) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table, without generated columns."""
    tables = target(
        "SELECT c.relname, array_agg(a.attname::text) FILTER (WHERE a.attgenerated <> '') "
        "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
        "WHERE c.relnamespace = 'quper'::regnamespace AND c.relkind = 'r' AND c.relname <> 'schema_version' "
        "GROUP BY c.relname"
    )
    return {
        table: [
            row
            for (row,) in target(
                f"SELECT to_jsonb(t) - %s::text[] FROM quper.{table} t ORDER BY cluster", [computed or []]
            )
        ]
        for table, computed in tables
    }
