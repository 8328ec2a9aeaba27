"""The board of one table, to which findings and tables link."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from tools.grafana.health_board import CLUSTER, OF_CLUSTER, TABLE_UID, TO_STATEMENT, TO_TABLE
from tools.grafana.panels import Panel, board, rows, series, text_variable

_ID = "nullif(${table_id:sqlstring}, '')::bigint"
_IN_DATABASE = "('' IN (${database:sqlstring}) OR database IN (${database:sqlstring}))"
_THIS = f"{OF_CLUSTER} AND table_id = {_ID} AND {_IN_DATABASE}"

_CHOOSE: list[Panel] = [
    rows(
        "Choose a table",
        "The 200 largest tables whose name contains `search`; the name links to the table.",
        f"""
SELECT schema || '.' || table_name AS "table", size_mb, tbl_rows, database, table_id
FROM quper.table_stats_current
WHERE {OF_CLUSTER} AND (schema || '.' || table_name) ILIKE '%' || ${{search:sqlstring}} || '%'
ORDER BY size_mb DESC LIMIT 200""",
        units={"size_mb": "mbytes"},
        links={"table": [TO_TABLE]},
        height=7,
    )
]
_FACTS: list[Panel] = [
    rows(
        "The table",
        "As svv_table_info shows it.",
        f"""
SELECT schema || '.' || table_name AS "table", size_mb, tbl_rows, estimated_visible_rows, diststyle, sort_key1,
    sortkey_num, sortkey1_enc, skew_rows, unsorted_pct, vacuum_sort_benefit_pct, stats_off_pct,
    pct_rows_marked_for_deletion AS deleted_pct, last_vacuum_date, vacuum_type, create_time, removed_at, database
FROM quper.table_stats WHERE {_THIS}""",
        units={"size_mb": "mbytes", "unsorted_pct": "percent", "stats_off_pct": "percent", "deleted_pct": "percent"},
        height=5,
    ),
    rows(
        "Findings",
        "Open and resolved findings.",
        f"""
SELECT severity, title, value, unit, since, resolved_at, episodes, note, remedy
FROM quper.health_history WHERE {OF_CLUSTER} AND table_id = {_ID} AND (database IS NULL OR {_IN_DATABASE})
ORDER BY resolved_at IS NULL DESC, severity_rank, since DESC""",
        widths={"severity": 90, "title": 300, "remedy": 420},
        height=7,
    ),
]
_TRENDS: list[Panel] = [
    series(
        "Size",
        "MB by day.",
        f"""
SELECT day::timestamp AS "time", size_mb FROM quper.table_stats_by_day
WHERE {_THIS} AND day BETWEEN $__timeFrom()::date - 30 AND $__timeTo()::date ORDER BY day""",
        "mbytes",
        per="1d",
    ),
    series(
        "Order and statistics",
        "Percent by day: unsorted rows, statistics out of date, rows marked for deletion.",
        f"""
SELECT day::timestamp AS "time", unsorted_pct AS unsorted, stats_off_pct AS statistics_off,
    pct_rows_marked_for_deletion AS deleted
FROM quper.table_stats_by_day
WHERE {_THIS} AND day BETWEEN $__timeFrom()::date - 30 AND $__timeTo()::date ORDER BY day""",
        "percent",
        per="1d",
    ),
    series(
        "Scans",
        "Scans by the hour in which they began; restricted ones skipped blocks because of the sort key.",
        f"""
SELECT $__timeGroup(scan_hour, $__interval) AS "time", sum(scans - range_restricted_scans) AS others,
    sum(range_restricted_scans) AS restricted
FROM quper.table_scan_stats WHERE {OF_CLUSTER} AND table_id = {_ID} AND $__timeFilter(scan_hour)
GROUP BY 1 ORDER BY 1""",
        "short",
        stacked=True,
        per="1h",
    ),
    rows(
        "Vacuums",
        "The newest 100 in the time range.",
        f"""
SELECT started_at, vacuum_type, outcome, is_automatic, duration_s, rows_reclaimed, mb_reclaimed
FROM quper.vacuums WHERE {OF_CLUSTER} AND table_id = {_ID} AND $__timeFilter(started_at)
ORDER BY started_at DESC LIMIT 100""",
        units={"duration_s": "s", "mb_reclaimed": "mbytes"},
        width=12,
        height=8,
    ),
]
_USE: list[Panel] = [
    rows(
        "Alerts, and the queries that caused them",
        "The newest 200 in the time range.",
        f"""
SELECT a.event_time, a.event, a.solution, q.user_name AS "user", q.execution_time_us / 1e6 AS run_s,
    left(q.query_text, 200) AS statement, a.query_id, q.generic_query_hash AS pattern
FROM (
    SELECT * FROM quper.alert_events WHERE {OF_CLUSTER} AND table_id = {_ID} AND $__timeFilter(event_time)
    ORDER BY event_time DESC LIMIT 200
) AS a
LEFT JOIN quper.query_history AS q ON q.cluster = a.cluster AND q.query_id = a.query_id
ORDER BY a.event_time DESC""",
        units={"run_s": "s"},
        links={"statement": [TO_STATEMENT], "event": [TO_STATEMENT]},
        hidden=("pattern",),
        widths={"event": 320, "solution": 320, "statement": 500},
    ),
    rows(
        "Columns",
        "Types and encodings.",
        f"""
SELECT ordinal_position AS position, column_name AS "column", data_type AS type, encoding, distkey, sortkey, is_nullable
FROM quper.column_stats_current
WHERE {OF_CLUSTER} AND table_id = {_ID}
  AND ('' IN (${{database:sqlstring}}) OR table_catalog IN (${{database:sqlstring}}))
ORDER BY ordinal_position""",
    ),
]


def build() -> dashboard.Dashboard:
    """Build the board."""
    variables = [
        CLUSTER,
        text_variable("search", "search"),
        text_variable("table_id", "table OID"),
        text_variable("database", "database"),
    ]
    sections = {"Choose": _CHOOSE, "Table": _FACTS, "Trends": _TRENDS, "Use": _USE}
    return board(TABLE_UID, "Redshift table", "One table of a Redshift cluster.", [*variables], sections)
