"""The past of the demo's target, as if QuperSync had run for weeks: made up from the rows of its first sync."""

from __future__ import annotations

from typing import Any

from psycopg2 import sql

from qupersync_assets.sandbox.workload.problems import NEW, SLOWER, UNUSED_SCHEMA
from qupersync_assets.sync_jobs.query_history import TABLE as QUERIES
from qupersync_assets.sync_jobs.query_metrics import TABLE as METRICS

DAYS = 45
_DAYS = """
(SELECT ago, (now() AT TIME ZONE 'UTC')::date - ago AS day FROM generate_series({}, 0, -1) AS ago) AS days"""

# Node 1 gains one percent of its space a day, the others a tenth of that.
_NODES = """
INSERT INTO quper.node_details_daily (cluster, node, day, used_mb, capacity_mb, removed)
SELECT cluster, node, day, used_mb * (1 - ago * (CASE node WHEN 1 THEN 0.0125 ELSE 0.001 END)), capacity_mb, false
FROM quper.node_details, {days} WHERE ago > 0 ON CONFLICT DO NOTHING"""

# Tables grow by up to one percent a day; marketing.clicks by a quarter within two days.
_TABLES = """
INSERT INTO quper.table_stats_daily (
    cluster, table_id, database, day, schema, table_name, size_mb, tbl_rows, unsorted_pct, stats_off_pct,
    pct_rows_marked_for_deletion, skew_rows, scans, removed)
SELECT cluster, table_id, database, day, schema, table_name, size_mb * share, tbl_rows * share, unsorted_pct * share,
    stats_off_pct * share, pct_rows_marked_for_deletion * share, skew_rows,
    CASE WHEN schema = '{unused}' THEN 0 ELSE 5 + (table_id + ago) % 9 END, false
FROM quper.table_stats, {days}, LATERAL (
    SELECT CASE WHEN table_name = 'clicks' THEN 1 - least(ago, 2) * 0.11 - ago * 0.0005
        ELSE 1 - ago * (table_id % 7) / 600.0 END AS share) AS grown
WHERE ago > 0 AND create_time < day ON CONFLICT DO NOTHING"""

_SNAPSHOT_DAYS = """
INSERT INTO quper.snapshot_days (cluster, table_name, day, last_read_at, is_complete)
SELECT cluster, name, day, day + time '23:59', true
FROM (SELECT DISTINCT cluster FROM quper.node_details) AS c,
    unnest(ARRAY['node_details', 'table_stats']) AS name, {days}
WHERE ago > 0 ON CONFLICT DO NOTHING"""

# Every table is read once a day, apart from those that no query uses.
_SCANS = """
INSERT INTO quper.table_scan_stats (
    cluster, table_id, scan_hour, table_name, scans, queries, rows, bytes, range_restricted_scans, first_scan_at,
    last_scan_at)
SELECT cluster, table_id, at, table_name, 1, 1, tbl_rows / 9, tbl_rows, 0, at, at + interval '9 seconds'
FROM quper.table_stats, {days}, LATERAL (SELECT (day + time '08:00') AT TIME ZONE 'UTC' AS at) AS hour
WHERE ago > 7 AND create_time < at AND schema <> '{unused}' ON CONFLICT DO NOTHING"""

# A user that has not connected for long.
_USERS = """
INSERT INTO quper.applications (cluster, application_name, user_name, database_name, first_seen, last_seen)
SELECT DISTINCT cluster, 'Pentaho', 'legacy_export', database_name, now() - interval '45 days',
    now() - interval '40 days'
FROM quper.applications ON CONFLICT DO NOTHING"""

# The week before the one that Redshift still has: the same, without what is new, and before a pattern got slower.
_WEEK_BEFORE = """
INSERT INTO quper.{table} ({names})
SELECT {values} FROM quper.{table} AS r
WHERE query_id IN (
    SELECT query_id FROM quper.query_history
    WHERE start_time > now() - interval '7 days' AND end_time IS NOT NULL AND query_text NOT LIKE '%{new}%')
ON CONFLICT DO NOTHING"""
_EARLIER = {
    "query_id": "query_id - 1000000",
    "start_time": "start_time - interval '7 days'",
    "end_time": "end_time - interval '7 days'",
}
_FASTER = ("elapsed_time_us", "execution_time_us", "queue_time_us")


def write_past(cursor: Any) -> bool:
    """Write `DAYS` days of daily history, and a week of queries, into a target whose first sync was today.

    Args:
        cursor: a cursor of psycopg2 in the target.

    Returns:
        Whether it was written: False if the target has a past.
    """
    cursor.execute("SELECT count(DISTINCT day) FROM quper.snapshot_days")
    if cursor.fetchone()[0] != 1:
        return False
    days = _DAYS.format(DAYS)
    for statement in (_NODES, _TABLES, _SNAPSHOT_DAYS, _SCANS, _USERS):
        cursor.execute(statement.format(days=days, unused=UNUSED_SCHEMA))
    for table in (QUERIES, METRICS):
        names = [column.name for column in table.c if column.computed is None]
        values = dict(_EARLIER)
        if table is QUERIES:
            share = f"""CASE WHEN query_text LIKE '%{SLOWER}%' THEN 0.3
                ELSE 0.88 + abs(hashtext(generic_query_hash)) % 30 / 100.0 END"""
            values |= {name: f"{name} * {share}" for name in _FASTER}
        statement = sql.SQL(_WEEK_BEFORE).format(
            table=sql.Identifier(table.name),
            names=sql.SQL(", ").join(map(sql.Identifier, names)),
            values=sql.SQL(", ").join(sql.SQL(values.get(name, f'r."{name}"')) for name in names),
            new=sql.SQL(NEW),
        )
        cursor.execute(statement)
    return True
