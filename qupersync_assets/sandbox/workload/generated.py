"""Rows for the documented views that the workload does not know: made up from the types of their columns."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from psycopg2 import sql

from qupersync_assets.sandbox.warehouse.rows import Row, copy_rows
from qupersync_assets.spec.redshift_views import column_types, documented_views

ROWS = 20


def fill_empty_views(cursor: Any, now: datetime) -> list[str]:
    """Write ROWS rows into each documented view that is an empty table; return their names."""
    cursor.execute(
        "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = 'redshift'::regnamespace AND relkind = 'r'"
    )
    tables = {name for (name,) in cursor.fetchall()}
    filled = []
    for view in sorted(tables & documented_views().keys()):
        cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM redshift.{})").format(sql.Identifier(view)))
        if not cursor.fetchone()[0]:
            types = column_types(view)
            rows: list[Row] = [
                {name: _value(name, kind, number, now) for name, kind in types.items()} for number in range(1, ROWS + 1)
            ]
            copy_rows(cursor, {view: rows})
            filled.append(view)
    return filled


def _value(name: str, kind: str, number: int, now: datetime) -> Any:
    """Return the value of a column in a row: different in each row, and the newest time in the last one."""
    if kind.startswith(("timestamp", "date", "time")):
        return now - timedelta(minutes=5 * (ROWS - number))
    if kind.startswith("bool"):
        return number % 2 == 0
    if kind.startswith(("char", "text", "varchar", "name", '"char"')):
        length = re.search(r"\((\d+)\)", kind)
        return f"{name}_{number}"[: int(length[1]) if length else None]
    return number
