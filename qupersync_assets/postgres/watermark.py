"""What of a history is read: all that Redshift holds, or what is new since the target's newest row.

The watermark is the newest time in the target itself: it cannot be ahead of what is committed, and a target
that was truncated is read anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from qupersync_assets.postgres.sync_logs import SYNC_LOGS
from qupersync_assets.spec.sync_spec import METADATA, RETENTION, SCHEMA, SyncSpec, Window

NEWS = "news"
# Rows that may still change are looked up by their key; more than these are left to the daily full read.
MOST_UNFINISHED = 1000


def find_window(
    connection: sa.Connection, spec: SyncSpec, cluster: str, lookback: timedelta, full_refresh: bool
) -> Window:
    """What to read now.

    Args:
        lookback: how far before the newest row, for rows that Redshift logs late.
        full_refresh: read everything, whatever the target holds.
    """
    if spec.time_column is None or not spec.is_incremental:
        return Window("always read whole")
    if full_refresh:
        return Window("full refresh")
    is_success = _is_success(spec, cluster)
    read_whole = sa.select(sa.func.max(SYNC_LOGS.c.started_at)).where(
        is_success, SYNC_LOGS.c.read_why != NEWS
    )
    watermark, last_whole, now = connection.execute(
        sa.select(newest(spec, cluster).scalar_subquery(), read_whole.scalar_subquery(), sa.func.now())
    ).one()
    if watermark is None:
        return Window("the target is empty")
    # In UTC, as the session is.
    if last_whole is None or last_whole.date() != now.date():
        return Window("first read of the day")
    since = watermark - lookback
    if spec.logged_late:
        since = min(since, _began(connection, cluster, since) or since)
    last = sa.select(SYNC_LOGS.c.source, SYNC_LOGS.c.columns_missing).where(is_success)
    source, missing = connection.execute(last.order_by(SYNC_LOGS.c.id.desc()).limit(1)).one()
    unfinished = _unfinished(connection, spec, cluster, now - RETENTION)
    return Window(NEWS, since, tuple(unfinished), (source, missing))


def find_lag(connection: sa.Connection, spec: SyncSpec, cluster: str) -> int:
    """Seconds between `newest` and now; 0 if there is nothing to reckon from."""
    seconds = sa.func.extract("epoch", sa.func.now() - newest(spec, cluster).scalar_subquery())
    return max(0, round(connection.scalar(sa.select(seconds)) or 0))


def newest(spec: SyncSpec, cluster: str) -> sa.Select[datetime]:
    """The query for the time of a history's newest row; of a snapshot, whose rows have none, when it was last
    read."""
    if spec.time_column is None:
        read = sa.func.coalesce(SYNC_LOGS.c.read_to, SYNC_LOGS.c.started_at)
        return sa.select(sa.func.max(read)).where(_is_success(spec, cluster))
    time = spec.table.c[spec.time_column]
    # A time that is yet to come is a fault of the source, and would hide every lag.
    return sa.select(sa.func.max(time)).where(spec.table.c.cluster == cluster, time <= sa.func.now())


def _is_success(spec: SyncSpec, cluster: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        SYNC_LOGS.c.cluster == cluster,
        SYNC_LOGS.c.sync_job_id == spec.sync_job_id,
        SYNC_LOGS.c.status == "success",
    )


def _began(connection: sa.Connection, cluster: str, since: datetime) -> datetime | None:
    """When the earliest query began that was still going at that time: its rows are logged when it ends, and
    carry the time of its beginning."""
    queries = METADATA.tables[f"{SCHEMA}.query_history"]
    statement = (
        sa.select(sa.func.min(queries.c.start_time))
        .where(queries.c.cluster == cluster, queries.c.start_time >= since - RETENTION)
        .where(queries.c.end_time.is_(None) | (queries.c.end_time >= since))
    )
    began: datetime | None = connection.scalar(statement)
    return began


def _unfinished(connection: sa.Connection, spec: SyncSpec, cluster: str, since: datetime) -> Sequence[int]:
    """The keys of rows that may still change in Redshift, newest first."""
    if spec.unfinished is None or spec.time_column is None:
        return ()
    time, (key,) = spec.table.c[spec.time_column], [c for c in spec.key if c.name != "cluster"]
    statement = (
        sa.select(key)
        .where(spec.table.c.cluster == cluster, time >= since, sa.text(spec.unfinished))
        .order_by(time.desc())
        .limit(MOST_UNFINISHED)
    )
    return connection.scalars(statement).all()
