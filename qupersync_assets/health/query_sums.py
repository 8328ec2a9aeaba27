"""Keeps the sums over queries: only hours and days with rows of the loads since the last evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

# Sums of this time are built if there are none: two weeks to compare, and one day.
HISTORY = timedelta(days=15)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# The end of a load gets its time shortly before it is visible.
_OVERLAP = timedelta(seconds=5)

_START = "date_bin('1 hour', q.start_time, TIMESTAMPTZ '2000-01-01 00:00:00+00')"
_PATTERN = "coalesce(nullif(q.generic_query_hash, ''), nullif(q.query_hash, ''), md5(q.query_text), 'unknown')"
# Summed metrics, which only few queries have.
_HAS_METRICS = "(m.spilled_mb > 0 OR m.rows_inserted BETWEEN 1 AND 100)"

# Rows get the time of their transaction, which began after the load that wrote them. A load that was killed is closed
# later, with the time at which it ended, hence those that run. A load takes less than a day; started_at has an index.
_SINCE = """
SELECT min(started_at) FROM quper.sync_logs
WHERE cluster = :cluster AND sync_job_id IN ('query_history_sync', 'query_metrics_sync')
    AND (completed_at > :last OR status = 'running') AND started_at > :last - interval '1 day'"""

# A query gets its metrics when it ends.
_CHANGED = f"""
SELECT DISTINCT {_START} AS hour FROM quper.query_history AS q
WHERE q.cluster = :cluster AND q.synced_at >= :since AND q.start_time >= :oldest AND q.start_time <= :now
UNION
SELECT DISTINCT {_START} FROM quper.query_metrics AS m
JOIN quper.query_history AS q ON q.cluster = m.cluster AND q.query_id = m.query_id
WHERE m.cluster = :cluster AND m.synced_at >= :since AND q.start_time >= :oldest AND q.start_time <= :now
    AND {_HAS_METRICS}"""

_OLDEST = """
SELECT min(start_time) FROM quper.query_history
WHERE cluster = :cluster AND start_time >= :oldest AND start_time <= :now"""

_QUERIES = f"""
FROM quper.query_history AS q
LEFT JOIN quper.query_metrics AS m ON m.cluster = :cluster AND m.query_id = q.query_id AND {_HAS_METRICS}
WHERE q.cluster = :cluster AND q.start_time >= :first AND q.start_time < :last"""

# From the minute of the start to that of the end, as far as they are in the hour.
_BUSY = f"""bit_or((1::bigint << 1 + CASE
        WHEN q.end_time >= {_START} + interval '1 hour' THEN 59
        WHEN q.end_time IS NULL AND q.status NOT IN ('stale', 'unknown') THEN 59
        ELSE date_part('minute', greatest(q.end_time, q.start_time))::integer END)
    - (1::bigint << date_part('minute', q.start_time)::integer))"""

# By table: the columns of its key after `cluster`, then their expressions, then the other columns.
_SUMS = {
    "health_query_hours": (
        "hour, service_class_id, database_name, user_name, application_name",
        f"{_START} AS hour, coalesce(q.service_class_id, 0) AS service_class_id, "
        "coalesce(q.database_name, '') AS database_name, coalesce(q.user_name, '') AS user_name, "
        "coalesce(q.application_name, '') AS application_name",
        {
            "service_class_name": "max(q.service_class_name)",
            "queries": "count(*)",
            "failed": "count(*) FILTER (WHERE q.status = 'failed')",
            "copies": "count(*) FILTER (WHERE q.query_type = 'COPY')",
            "small_inserts": "count(*) FILTER (WHERE m.rows_inserted BETWEEN 1 AND 100)",
            "spilled_queries": "count(*) FILTER (WHERE m.spilled_mb > 0)",
            "spilled_mb": "coalesce(sum(m.spilled_mb), 0)",
            "elapsed_us": "coalesce(sum(q.elapsed_time_us), 0)",
            "queue_us": "coalesce(sum(q.queue_time_us), 0)",
            "planning_us": "coalesce(sum(q.planning_time_us), 0)",
            "compile_us": "coalesce(sum(q.compile_time_us), 0)",
            "lock_wait_us": "coalesce(sum(q.lock_wait_time_us), 0)",
            "execution_us": "coalesce(sum(q.execution_time_us), 0)",
            "scaling_us": "coalesce(sum(q.execution_time_us) FILTER (WHERE q.compute_type <> 'primary'), 0)",
            "busy_minutes": f"coalesce({_BUSY}, 0)",
            "last_end": "max(q.end_time)",
        },
        "",
    ),
    "health_pattern_days": (
        "day, pattern",
        f"(q.start_time AT TIME ZONE 'UTC')::date AS day, {_PATTERN} AS pattern",
        {
            "query_type": "max(q.query_type)",
            "service_class_id": "max(q.service_class_id)",
            "queries": "count(*)",
            "failed": "count(*) FILTER (WHERE q.status = 'failed')",
            "elapsed_us": "coalesce(sum(q.elapsed_time_us), 0)",
            "execution_us": "coalesce(sum(q.execution_time_us), 0)",
            "spilled_mb": "coalesce(sum(m.spilled_mb), 0)",
            "max_execution_us": "max(q.execution_time_us)",
            "longest_query_id": "(max(ARRAY[coalesce(q.execution_time_us, 0), q.query_id]))[2]",
            "last_failed_query_id": "max(q.query_id) FILTER (WHERE q.status = 'failed')",
        },
        " HAVING sum(q.execution_time_us) >= 1000000 OR count(*) >= 10 OR bool_or(q.status = 'failed')",
    ),
}


def update_sums(connection: sa.Connection, cluster: str, now: datetime) -> None:
    """Sum up the hours and days with queries of the loads that ended since the last evaluation; without sums those of
    HISTORY."""
    known = (
        "SELECT evaluated_at FROM quper.health_evaluations "
        "WHERE cluster = :cluster AND EXISTS (SELECT FROM quper.health_query_hours WHERE cluster = :cluster)"
    )
    last = connection.scalar(sa.text(known), {"cluster": cluster})
    parameters = {"cluster": cluster, "now": now, "oldest": now - HISTORY}
    # There are far fewer sums than the planner expects, which would sort the queries.
    connection.execute(sa.text("SET LOCAL enable_sort = off"))
    if last:
        since = connection.scalar(sa.text(_SINCE), {"cluster": cluster, "last": last - _OVERLAP})
        changed = connection.scalars(sa.text(_CHANGED), parameters | {"since": since}) if since else ()
        hours = sorted(changed)
    else:
        oldest = connection.scalar(sa.text(_OLDEST), parameters)
        hours = list(_hours(oldest.astimezone(UTC), now)) if oldest else []
    for first, end in _ranges(hours, HOUR):
        _replace(connection, cluster, "health_query_hours", "hour", first, end)
    days = dict.fromkeys(hour.astimezone(UTC).replace(hour=0) for hour in hours)
    for first, end in _ranges(days, DAY):
        _replace(connection, cluster, "health_pattern_days", "day", first, end)
    connection.execute(sa.text("SET LOCAL enable_sort = on"))


def _hours(first: datetime, last: datetime) -> Iterator[datetime]:
    """Yield the hours from that of the first time to that of the last one."""
    hour = first.replace(minute=0, second=0, microsecond=0)
    while hour <= last:
        yield hour
        hour += HOUR


def _ranges(times: Iterable[datetime], step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Yield start and end of each run of times that follow one another."""
    first = end = None
    for time in times:
        if time != end:
            if first and end:
                yield first, end
            first = time
        end = time + step
    if first and end:
        yield first, end


def _replace(connection: sa.Connection, cluster: str, table: str, time: str, first: datetime, end: datetime) -> None:
    """Replace the sums of a range; the query that fills a temporary table can use several processes."""
    key, expressions, values, having = _SUMS[table]
    listed = ", ".join(f"{expression} AS {name}" for name, expression in values.items())
    parameters = {"cluster": cluster, "first": first, "last": end}
    source = f"SELECT {expressions}, {listed} {_QUERIES} GROUP BY {key}{having}"
    for statement in (
        f"CREATE TEMPORARY TABLE new_sums ON COMMIT DROP AS {source}",
        f"DELETE FROM quper.{table} WHERE cluster = :cluster AND {time} >= :first AND {time} < :last",
        f"INSERT INTO quper.{table} (cluster, {key}, {', '.join(values)}) "
        f"SELECT :cluster, {key}, {', '.join(values)} FROM new_sums",
        "DROP TABLE new_sums",
    ):
        connection.execute(sa.text(statement), parameters)
