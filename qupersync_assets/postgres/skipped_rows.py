"""quper.skipped_rows: one row per skipped source row, with a counter of its reads."""

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert

from qupersync_assets.rows.row_counts import SkippedRow
from qupersync_assets.spec import CLUSTER_COMMENT, METADATA, SyncSpec

_UTC = sa.DateTime(timezone=True)
REFUSED = "PostgreSQL: "  # the reason starts with it if the row is valid, and PostgreSQL or a trigger refuses it

SKIPPED_ROWS = sa.Table(
    "skipped_rows",
    METADATA,
    sa.Column("cluster", sa.Text, primary_key=True, comment=CLUSTER_COMMENT),
    sa.Column("sync_job_id", sa.Text, primary_key=True, comment="job that skipped the row"),
    sa.Column("fingerprint", sa.Text, primary_key=True, comment="identifies the row (SHA-256)"),
    sa.Column("run_id", sa.Text, nullable=False, comment="Dagster run that read it last"),
    sa.Column("column_name", sa.Text, comment="column with the invalid value, if it is known"),
    sa.Column("reason", sa.Text, nullable=False, comment="why the row was not loaded"),
    sa.Column("row", JSONB, nullable=False, comment="the row as it was last read"),
    sa.Column("first_seen", _UTC, nullable=False, server_default=sa.func.now(), comment="first read (UTC)"),
    sa.Column("last_seen", _UTC, nullable=False, server_default=sa.func.now(), comment="last read (UTC)"),
    sa.Column("times_seen", sa.BigInteger, nullable=False, comment="how often it was read"),
    sa.Index("skipped_rows_last_seen_idx", sa.text("last_seen DESC")),
    comment="Rows of Redshift that could not be loaded, and why.",
)


def record(connection: sa.Connection, spec: SyncSpec, cluster: str, run_id: str, rows: Iterable[SkippedRow]) -> None:
    """Write skipped rows in the transaction of the caller; for a known row only its counter increases."""
    records: dict[str, dict[str, Any]] = {}
    for skipped in rows:
        identity = fingerprint(spec, skipped)
        reads = records[identity]["times_seen"] if identity in records else 0
        records[identity] = {
            "cluster": cluster,
            "sync_job_id": spec.sync_job_id,
            "fingerprint": identity,
            "run_id": run_id,
            "column_name": skipped.column,
            "reason": skipped.reason,
            "row": {name: _as_json(value) for name, value in skipped.row.items()},
            "times_seen": reads + 1,
        }
    if not records:
        return
    new = insert(SKIPPED_ROWS)
    statement = new.on_conflict_do_update(
        index_elements=SKIPPED_ROWS.primary_key.columns,
        set_={
            **{name: new.excluded[name] for name in ("run_id", "column_name", "reason", "row")},
            "last_seen": sa.func.now(),
            "times_seen": SKIPPED_ROWS.c.times_seen + new.excluded.times_seen,
        },
    )
    # All writers write in the order of the keys, so that they cannot deadlock.
    connection.execute(statement, [records[identity] for identity in sorted(records)])


def refused_keys(connection: sa.Connection, spec: SyncSpec, cluster: str) -> set[tuple[Any, ...]]:
    """Return the keys of the rows that PostgreSQL refused, in the form of `as_known_key`."""
    rows = SKIPPED_ROWS.c
    of_job = (rows.cluster == cluster) & (rows.sync_job_id == spec.sync_job_id)
    names = [c.name for c in spec.columns if c.name in spec.key_inputs]
    refused = sa.select(rows.row).where(of_job, rows.reason.startswith(REFUSED))
    return {tuple(row.get(name) for name in names) for row in connection.scalars(refused)}


def as_known_key(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return the coerced values of a row's key as `refused_keys` has them."""
    return tuple(map(_as_json, values))


def fingerprint(spec: SyncSpec, skipped: SkippedRow) -> str:
    """Return a hash of the invalid column and the key, or of all values if the key itself is invalid.

    Only the key is hashed because other values may change with each read.
    """
    names = sorted(spec.key_inputs & skipped.row.keys())
    key = {name: skipped.row[name] for name in names}
    if not names or skipped.column in key or None in key.values():
        key = skipped.row
    identity = {"column": skipped.column, "row": {name: _as_json(value) for name, value in key.items()}}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _as_json(value: Any) -> Any:
    """Return a value that jsonb stores exactly; types that JSON lacks become text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    # jsonb accepts neither NUL nor lone surrogates.
    return str(value).replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode()
