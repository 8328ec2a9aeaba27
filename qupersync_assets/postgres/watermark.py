"""Plans which rows of a history a sync reads: all that Redshift holds, or those since the watermark.

The watermark is the newest time in the target table itself: it is never ahead of the committed rows, and a
truncated table is read completely.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from qupersync_assets.postgres.mutable_rows import mutable_keys
from qupersync_assets.postgres.sync_logs import SYNC_LOGS, Gap, last_success, rows_of, successes
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.rows.coercion import transform
from qupersync_assets.rows.page import AnyPage
from qupersync_assets.spec import FULL_READ, RETENTION, ReadMode, SyncSpec, Window
from qupersync_assets.sync_jobs import query_history

# A full read that failed may fail again, for example because it takes too long.
FULL_READ_RETRY = timedelta(hours=1)


def plan_window(
    connection: sa.Connection, spec: SyncSpec, cluster: str, lookback: timedelta, full_refresh: bool
) -> Window:
    """Return the window of the next sync: everything for `full_refresh`, else from `lookback` before the
    watermark, because Redshift logs late."""
    if spec.time_column is None or not spec.is_incremental:
        return FULL_READ
    succeeded = successes(cluster, spec.sync_job_id)
    full_reads = sa.select(SYNC_LOGS.c.started_at).where(succeeded, SYNC_LOGS.c.read_mode == ReadMode.FULL)
    last_full_read = full_reads.order_by(SYNC_LOGS.c.id.desc()).limit(1)
    watermark, full_read_at, now = connection.execute(
        sa.select(newest(spec, cluster).scalar_subquery(), last_full_read.scalar_subquery(), sa.func.now())
    ).one()
    if watermark is None:
        return Window(ReadMode.FULL, "full refresh requested" if full_refresh else "the target table is empty")
    since = watermark - lookback
    if spec.late_arriving:
        since = min(since - query_history.SHORT, earliest_start(connection, cluster, since) or since)
    is_due = full_read_at is None or full_read_at.astimezone(UTC).date() < now.astimezone(UTC).date()
    mode, reason = ReadMode.INCREMENTAL, "new rows since the last sync"
    if full_refresh:
        mode, reason = ReadMode.FULL, "full refresh requested"
    elif is_due and _full_read_failed(connection, spec, cluster):
        reason = f"{reason}; a full read failed within {FULL_READ_RETRY}"
    elif is_due:
        mode, reason = ReadMode.FULL, "first sync of the day"
    known_from = _known_from(connection, spec, cluster)
    return Window(mode, reason, since, tuple(mutable_keys(connection, spec, cluster)), known_from)


def find_gap(connection: sa.Connection, spec: SyncSpec, cluster: str) -> Gap | None:
    """Return start and end of the time whose rows may be lost, because the source deletes rows after its retention.

    It starts at the last success; if the table has lost its newest rows since then, perhaps because it was restored
    from a backup, at its newest row. A cluster that is idle keeps its newest row, and has no gap.
    """
    if spec.time_column is None:
        return None
    success = last_success(connection, cluster, spec.sync_job_id)
    if success is None:
        return None
    start, newest_then = success
    held, now = connection.execute(sa.select(newest(spec, cluster).scalar_subquery(), sa.func.now())).one()
    if newest_then is not None and held is not None and held < newest_then:
        start = min(start, held)
    return (start, now - RETENTION) if start < now - RETENTION else None


def remaining_gap(gap: Gap | None, oldest: datetime | None) -> Gap | None:
    """Return what is lost of a gap if `oldest` is the time of the oldest row that was read.

    The source deletes its oldest rows first: a row of before the gap proves that no row was deleted.
    """
    if gap is None or oldest is None:
        return gap
    start, end = gap
    return None if oldest <= start else (start, min(end, oldest))


def find_lag(connection: sa.Connection, spec: SyncSpec, cluster: str) -> int:
    """Return the seconds between `newest` and now; 0 if the table is empty."""
    seconds = sa.func.extract("epoch", sa.func.now() - newest(spec, cluster).scalar_subquery())
    return max(0, round(connection.scalar(sa.select(seconds)) or 0))


def newest(spec: SyncSpec, cluster: str | sa.ColumnElement[str]) -> sa.Select[datetime]:
    """Return the query for the time of a history's newest row; for a snapshot, whose rows have no time, for
    the time of its last read."""
    if spec.time_column is None:
        read = sa.func.coalesce(SYNC_LOGS.c.read_to, SYNC_LOGS.c.started_at)
        last = sa.select(read.label("read_at")).where(successes(cluster, spec.sync_job_id))
        return sa.select(last.order_by(SYNC_LOGS.c.id.desc()).limit(1).subquery().c.read_at)
    time = spec.table.c[spec.time_column]
    # A time in the future is a fault of the source and would hide every lag.
    return sa.select(sa.func.max(time)).where(spec.table.c.cluster == cluster, time <= sa.func.now())


def _full_read_failed(connection: sa.Connection, spec: SyncSpec, cluster: str) -> bool:
    """Return whether a full read failed lately: it is repeated later, and new rows are read meanwhile."""
    log = SYNC_LOGS.c
    failed = rows_of(cluster, spec.sync_job_id) & log.status.in_((SyncStatus.FAILED, SyncStatus.CANCELED))
    lately = log.completed_at > sa.func.now() - FULL_READ_RETRY
    return bool(connection.scalar(sa.select(sa.exists().where(failed, log.read_mode == ReadMode.FULL, lately))))


def _known_from(connection: sa.Connection, spec: SyncSpec, cluster: str) -> tuple[str | None, tuple[str, ...]] | None:
    """Return source and missing columns of the last load that ended; None if it failed."""
    log = SYNC_LOGS.c
    ended = log.status.in_((SyncStatus.SUCCESS, SyncStatus.FAILED, SyncStatus.CANCELED))
    last = sa.select(log.status, log.source, log.columns_missing).where(rows_of(cluster, spec.sync_job_id), ended)
    found = connection.execute(last.order_by(log.id.desc()).limit(1)).first()
    return (found.source, tuple(found.columns_missing or ())) if found and found.status == SyncStatus.SUCCESS else None


def earliest_start(connection: sa.Connection, cluster: str, since: datetime) -> datetime | None:
    """Return the earliest start of the queries that have ended since then: Redshift logs the rows of a query when it
    ends, with the time when it began. A query that still runs has no rows yet. None if no query began before."""
    queries = query_history.TABLE.c
    long_queries = (
        sa.select(queries.start_time)
        .where(queries.cluster == cluster, queries.start_time >= since - RETENTION, queries.end_time >= since)
        .where(sa.text(query_history.LONG), sa.text(f"NOT {query_history.UNFINISHED}"))
        .offset(0)  # without it, PostgreSQL reads all queries in the order of their start
        .subquery()
    )
    started: datetime | None = connection.scalar(sa.select(sa.func.min(long_queries.c.start_time)))
    return started


def oldest_time(spec: SyncSpec, page: AnyPage, ignored: Collection[int]) -> datetime | None:
    """Return the time of a page's oldest row, but for rows with the keys `ignored`, which are read whatever their
    time."""
    rows, _ = transform(spec, page.decoded())
    names = [c.name for c in spec.columns]
    time = names.index(str(spec.time_column))
    key = names.index(spec.source_key[0].name) if ignored else time
    return min((row[time] for row in rows if row[time] and row[key] not in ignored), default=None)
