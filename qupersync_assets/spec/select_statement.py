"""Builds the SELECT statement that reads a source variant."""

import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from qupersync_assets.spec.redshift_views import column_types
from qupersync_assets.spec.source_variant import Variant
from qupersync_assets.spec.sync_spec import SyncSpec
from qupersync_assets.spec.window import FULL_READ, ReadMode, Window

_NARROW = ("smallint", "integer", "int")  # documented types of integers of fewer than 64 bits


def select_statement(
    spec: SyncSpec,
    variant: Variant,
    missing: Collection[tuple[str, str]] = (),
    window: Window = FULL_READ,
    include_own_queries: bool = False,
    narrow: Collection[tuple[str, str]] = (),
) -> str:
    """Return the SELECT to run in Redshift; its labels are the names of `spec.columns`.

    Args:
        missing: (view, column) of the source columns that this cluster lacks; they are read as NULL.
        window: which rows of a history to read.
        include_own_queries: also read queries with the label qupersync.
        narrow: (view, column) of integers of fewer than 64 bits; they are cast to the width of the target.
    """
    placeholders = {
        "{since}": read_since(spec, window),
        "{mutable_keys}": ", ".join(str(int(key)) for key in window.mutable_keys) or "NULL",
        "{include_own_queries}": "1 = 1" if include_own_queries else "1 = 0",
    }
    from_clause = variant.from_clause.strip()
    for placeholder, sql in placeholders.items():
        from_clause = from_clause.replace(placeholder, sql)
    narrow = {*narrow, *((view, name) for view, name in missing if column_types(view).get(name) in _NARROW)}
    select = ",\n       ".join(f'{_selected(variant, c, narrow)} AS "{c.name}"' for c in spec.columns)
    return _with_missing_columns(f"SELECT {select}\n{from_clause}", variant, missing)


def read_since(spec: SyncSpec, window: Window) -> str:
    """Return the Redshift expression for the time from which a window reads rows."""
    if window.since is None:
        return spec.full_read_since
    since = timestamp_literal(window.since)
    # Redshift may still have rows that are older than its retention, also if the last sync was long ago.
    return since if window.mode is ReadMode.INCREMENTAL else f"LEAST({spec.full_read_since}, {since})"


def timestamp_literal(time: datetime) -> str:
    """Return a time as a literal of Redshift's type timestamp (UTC)."""
    return f"'{time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'::timestamp"


def _with_missing_columns(statement: str, variant: Variant, missing: Collection[tuple[str, str]]) -> str:
    """Let the statement read each view through a common table expression that has the missing columns."""
    completed = []
    for view in dict.fromkeys(view for view, _ in sorted(missing)):
        # The lookbehind leaves the text literal 'view' as it is.
        statement = re.sub(rf"(?<!')\b{view}\b", f"qupersync_{view}", statement)
        columns = ", ".join(
            f'NULL::{column_types(view).get(name, "varchar")} AS "{name}"' if (view, name) in missing else f'"{name}"'
            for name in sorted(variant.used_columns()[view])
        )
        completed.append(f"qupersync_{view} AS (SELECT {columns} FROM {view})")
    return f"WITH {', '.join(completed)}\n{statement}" if completed else statement


def _selected(variant: Variant, column: sa.Column[Any], narrow: Collection[tuple[str, str]]) -> str:
    """Return the Redshift expression for a target column."""
    if column.name not in variant.expressions:
        return _null(column.type)
    reads, sql = variant.expressions[column.name]
    is_plain = [f'"{name}"' for name in reads] == [sql]
    if isinstance(column.type, sa.BigInteger) and is_plain and next(variant.located(reads)) in narrow:
        return f"{sql}::bigint"
    return sql


def _null(type_: sa.types.TypeEngine[Any]) -> str:
    """Return NULL in the Redshift type that corresponds to a PostgreSQL type."""
    if isinstance(type_, sa.DateTime):
        return "NULL::timestamp"
    if isinstance(type_, sa.Text):
        return "NULL::varchar"
    return f"NULL::{type_.compile(postgresql.dialect()).lower()}"  # type: ignore[no-untyped-call]
