"""Writes the daily history of a snapshot: a row for each object and day on which a kept value changed.

It is written in the transaction that ends a load. Only rows of the snapshot that were written since the last read of
the day are compared with the history; the first read of a day compares all.
"""

from collections.abc import Iterable
from datetime import date

import sqlalchemy as sa

from qupersync_assets.core.sql import quote_identifier as quote
from qupersync_assets.spec import CLUSTER_COMMENT, METADATA, UTC_TIME, DailyHistory, SyncSpec

SNAPSHOT_DAYS = sa.Table(
    "snapshot_days",
    METADATA,
    sa.Column("cluster", sa.Text, primary_key=True, comment=CLUSTER_COMMENT),
    sa.Column("table_name", sa.Text, primary_key=True, comment="the snapshot table"),
    sa.Column("day", sa.Date, primary_key=True, comment="the day (UTC)"),
    sa.Column("last_read_at", UTC_TIME, nullable=False, comment="end of the last successful read of that day (UTC)"),
    sa.Column(
        "is_complete",
        sa.Boolean,
        nullable=False,
        comment="true: all rows of that day were read; false: rows were skipped, so removed rows are not known",
    ),
    comment="The days on which each snapshot table with a daily history was read.",
)

# A change must not be missed if the clock is set back, or if another job commits long after its rows got their time.
_OVERLAP = sa.text("interval '1 hour'")
_TODAY = sa.text("(now() AT TIME ZONE 'UTC')::date")


def write_day(connection: sa.Connection, spec: SyncSpec, cluster: str, is_complete: bool, day: date | None) -> None:
    """Write what changed in a snapshot to its daily history; `day` is that of PostgreSQL's clock (UTC) by default."""
    if spec.daily is None:
        return
    day = day or connection.execute(sa.select(_TODAY)).scalar_one()
    days, table = SNAPSHOT_DAYS.c, spec.table.name
    read_today = (days.cluster == cluster) & (days.table_name == table) & (days.day == day)
    since = connection.scalar(sa.select(days.last_read_at - _OVERLAP).where(read_today))
    parameters = {"cluster": cluster, "table": table, "day": day, "since": since, "is_complete": is_complete}
    connection.execute(sa.text(_changes(spec, spec.daily)), parameters)
    connection.execute(sa.text(_RECORD), parameters)
    if spec.daily.sums:
        connection.execute(sa.text(_sums(spec.daily)), parameters)


_RECORD = """
INSERT INTO quper.snapshot_days AS d (cluster, table_name, day, last_read_at, is_complete)
VALUES (:cluster, :table, :day, now(), :is_complete)
ON CONFLICT (cluster, table_name, day) DO UPDATE
SET last_read_at = now(), is_complete = d.is_complete OR excluded.is_complete"""


def _changes(spec: SyncSpec, daily: DailyHistory) -> str:
    """Return the statement that adds the objects of a snapshot that differ from their newest row in the history."""
    # An object that was removed before its first row has no history.
    return f"""
INSERT INTO {daily.table.fullname} AS d (cluster, {_names(daily.key)}, day, {_names(daily.kept)}, removed)
SELECT t.cluster, {_names(daily.key, "t")}, :day, {_names(daily.kept, "t")}, t.removed_at IS NOT NULL
FROM {spec.table.fullname} AS t LEFT JOIN LATERAL ({_newest(daily, "t", ":day")}) AS n ON true
WHERE t.cluster = :cluster AND (CAST(:since AS timestamptz) IS NULL OR t.synced_at >= :since OR t.removed_at >= :since)
  AND CASE WHEN n.day IS NULL THEN t.removed_at IS NULL
      ELSE ({_names(daily.kept, "t")}, t.removed_at IS NOT NULL)
           IS DISTINCT FROM ({_names(daily.kept, "n")}, n.removed) END
ON CONFLICT ({_names(daily.table.primary_key.columns.keys())}) DO UPDATE
SET ({_names(daily.kept)}, removed, synced_at) = ({_names(daily.kept, "excluded")}, excluded.removed, now())"""


def _newest(daily: DailyHistory, row: str, day: str) -> str:
    same = " AND ".join(f"h.{quote(name)} = {row}.{quote(name)}" for name in ("cluster", *daily.key))
    return f"SELECT * FROM {daily.table.fullname} AS h WHERE {same} AND h.day <= {day} ORDER BY h.day DESC LIMIT 1"


def _sums(daily: DailyHistory) -> str:
    """Return the statement that writes the sums of a day; an object without a change on that day gets a row."""
    first, values = quote(daily.key[0]), _names((*daily.kept, *daily.sums))
    return f"""
INSERT INTO {daily.table.fullname} AS d (cluster, {_names(daily.key)}, day, {values}, removed)
SELECT n.cluster, {_names(daily.key, "n")}, s.day, {_names(daily.kept, "n")}, {_names(daily.sums, "s")}, n.removed
FROM ({daily.sums_query}) AS s
JOIN quper.snapshot_days AS r ON r.cluster = :cluster AND r.table_name = :table AND r.day = s.day
CROSS JOIN LATERAL (
    SELECT DISTINCT ON ({_names(daily.key, "h")}) * FROM {daily.table.fullname} AS h
    WHERE h.cluster = :cluster AND h.{first} = s.{first} AND h.day <= s.day
    ORDER BY {_names(daily.key, "h")}, h.day DESC
) AS n
WHERE NOT n.removed OR n.day = s.day
ON CONFLICT ({_names(daily.table.primary_key.columns.keys())}) DO UPDATE
SET ({_names(daily.sums)}, synced_at) = ({_names(daily.sums, "excluded")}, now())
WHERE ({_names(daily.sums, "d")}) IS DISTINCT FROM ({_names(daily.sums, "excluded")})"""


def _names(names: Iterable[str], row: str = "") -> str:
    return ", ".join(f"{row}.{quote(name)}" if row else quote(name) for name in names)
