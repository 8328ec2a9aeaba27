"""Plans which rows of a history a sync reads: all that Redshift holds, or those since the watermark.

The watermark is the newest time in the target table itself: it is never ahead of the committed rows, and a
truncated table is read completely.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from qupersync_assets.postgres.sync_logs import SYNC_LOGS, successes
from qupersync_assets.spec import FULL_READ, METADATA, RETENTION, SCHEMA, ReadMode, SyncSpec, Window

# Mutable rows are looked up by key; the daily full read covers those beyond this number.
MAX_MUTABLE_KEYS = 1000


def plan_window(
    connection: sa.Connection, spec: SyncSpec, cluster: str, lookback: timedelta, full_refresh: bool
) -> Window:
    """Return the window of the next sync: everything for `full_refresh`, else from `lookback` before the
    watermark, because Redshift logs late."""
    if spec.time_column is None or not spec.is_incremental:
        return FULL_READ
    if full_refresh:
        return Window(ReadMode.FULL, "full refresh requested")
    succeeded = successes(cluster, spec.sync_job_id)
    last_full_read = sa.select(sa.func.max(SYNC_LOGS.c.started_at)).where(
        succeeded, SYNC_LOGS.c.read_mode == ReadMode.FULL
    )
    watermark, full_read_at, now = connection.execute(
        sa.select(newest(spec, cluster).scalar_subquery(), last_full_read.scalar_subquery(), sa.func.now())
    ).one()
    if watermark is None:
        return Window(ReadMode.FULL, "the target table is empty")
    # The session's time zone is UTC.
    if full_read_at is None or full_read_at.date() < now.date():
        return Window(ReadMode.FULL, "first sync of the day")
    since = watermark - lookback
    if spec.late_arriving:
        since = min(since, _oldest_running_query(connection, cluster, since) or since)
    last = sa.select(SYNC_LOGS.c.source, SYNC_LOGS.c.columns_missing).where(succeeded)
    source, missing = connection.execute(last.order_by(SYNC_LOGS.c.id.desc()).limit(1)).one()
    return Window(
        ReadMode.INCREMENTAL,
        "new rows since the last sync",
        since,
        tuple(_mutable_keys(connection, spec, cluster, now - RETENTION)),
        (source, tuple(missing or ())),
    )


def find_lag(connection: sa.Connection, spec: SyncSpec, cluster: str) -> int:
    """Return the seconds between `newest` and now; 0 if the table is empty."""
    seconds = sa.func.extract("epoch", sa.func.now() - newest(spec, cluster).scalar_subquery())
    return max(0, round(connection.scalar(sa.select(seconds)) or 0))


def newest(spec: SyncSpec, cluster: str) -> sa.Select[datetime]:
    """Return the query for the time of a history's newest row; for a snapshot, whose rows have no time, for
    the time of its last read."""
    if spec.time_column is None:
        read = sa.func.coalesce(SYNC_LOGS.c.read_to, SYNC_LOGS.c.started_at)
        return sa.select(sa.func.max(read)).where(successes(cluster, spec.sync_job_id))
    time = spec.table.c[spec.time_column]
    # A time in the future is a fault of the source and would hide every lag.
    return sa.select(sa.func.max(time)).where(spec.table.c.cluster == cluster, time <= sa.func.now())


def _oldest_running_query(connection: sa.Connection, cluster: str, since: datetime) -> datetime | None:
    """Return the start of the oldest query that was still running at `since`: Redshift logs its rows when it
    ends, with the time when it began."""
    queries = METADATA.tables[f"{SCHEMA}.query_history"]
    statement = (
        sa.select(sa.func.min(queries.c.start_time))
        .where(queries.c.cluster == cluster, queries.c.start_time >= since - RETENTION)
        .where(queries.c.end_time.is_(None) | (queries.c.end_time >= since))
    )
    started: datetime | None = connection.scalar(statement)
    return started


def _mutable_keys(connection: sa.Connection, spec: SyncSpec, cluster: str, since: datetime) -> Sequence[int]:
    """Return the keys of rows that may still change in Redshift, newest first."""
    if spec.mutable_where is None or spec.time_column is None:
        return ()
    time, (key,) = spec.table.c[spec.time_column], spec.source_key
    statement = (
        sa.select(key)
        .where(spec.table.c.cluster == cluster, time >= since, sa.text(spec.mutable_where))
        .order_by(time.desc())
        .limit(MAX_MUTABLE_KEYS)
    )
    return connection.scalars(statement).all()
