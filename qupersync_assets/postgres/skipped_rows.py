"""quper.skipped_rows: every rejected row, once, however often it comes back."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert

from qupersync_assets.rows.row_counts import SkippedRow
from qupersync_assets.spec import METADATA, SyncSpec

_UTC = sa.DateTime(timezone=True)

SKIPPED_ROWS = sa.Table(
    "skipped_rows",
    METADATA,
    sa.Column("cluster", sa.Text, primary_key=True, comment="CLUSTER_NAME of the source cluster"),
    sa.Column("sync_job_id", sa.Text, primary_key=True, comment="job that skipped the row"),
    sa.Column("fingerprint", sa.Text, primary_key=True, comment="tells the row from others (SHA-256)"),
    sa.Column("run_id", sa.Text, nullable=False, comment="Dagster run that saw it last"),
    sa.Column("column_name", sa.Text, comment="column at fault, where it is known"),
    sa.Column("reason", sa.Text, nullable=False, comment="why the row was not loaded"),
    sa.Column("row", JSONB, nullable=False, comment="the row as it was last read"),
    sa.Column("first_seen", _UTC, nullable=False, server_default=sa.func.now(), comment="UTC"),
    sa.Column("last_seen", _UTC, nullable=False, server_default=sa.func.now(), comment="UTC"),
    sa.Column("times_seen", sa.BigInteger, nullable=False, comment="how often it was read"),
    sa.Index("skipped_rows_last_seen_idx", sa.text("last_seen DESC")),
    comment="Rows of Redshift that could not be loaded, and why.",
)


def record(
    connection: sa.Connection, spec: SyncSpec, cluster: str, run_id: str, rejected: Iterable[SkippedRow]
) -> None:
    """Write rejected rows within the caller's transaction; a row that is known is counted, not repeated."""
    records: dict[str, dict[str, Any]] = {}
    for bad in rejected:
        mark = fingerprint(spec, bad)
        seen = records[mark]["times_seen"] if mark in records else 0
        records[mark] = {
            "cluster": cluster,
            "sync_job_id": spec.sync_job_id,
            "fingerprint": mark,
            "run_id": run_id,
            "column_name": bad.column,
            "reason": bad.reason,
            "row": {name: _plain(value) for name, value in bad.row.items()},
            "times_seen": seen + 1,
        }
    if not records:
        return
    new = insert(SKIPPED_ROWS)
    statement = new.on_conflict_do_update(
        index_elements=SKIPPED_ROWS.primary_key.columns,
        set_={
            "run_id": new.excluded.run_id,
            "column_name": new.excluded.column_name,
            "reason": new.excluded.reason,
            "row": new.excluded.row,
            "last_seen": sa.func.now(),
            "times_seen": SKIPPED_ROWS.c.times_seen + new.excluded.times_seen,
        },
    )
    # In the order of their keys, so that two writers wait for each other instead of locking each other out.
    connection.execute(statement, [records[mark] for mark in sorted(records)])


def fingerprint(spec: SyncSpec, bad: SkippedRow) -> str:
    """The identity of a rejected row: its key if that is sound, so that a row whose other values change with
    every read stays one record; else all its values."""
    names = [c.name for c in spec.key if c.name in bad.row]
    key = {name: bad.row[name] for name in names}
    if not names or bad.column in key or None in key.values():
        key = bad.row
    text = json.dumps({"column": bad.column, "row": {n: _plain(v) for n, v in key.items()}}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A value that jsonb can hold, exact: what JSON has no form for becomes text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    text = value if isinstance(value, str) else str(value)
    # jsonb knows neither NUL nor lone surrogates.
    return text.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode()
