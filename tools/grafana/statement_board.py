"""The board of one statement pattern and of one query, to which findings, tables and errors link."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from tools.grafana.health_board import CLUSTER, OF_CLUSTER, STATEMENT_UID, TO_STATEMENT, TO_TABLE
from tools.grafana.panels import Panel, board, rows, series, text_variable

_QUERY = "nullif(${query_id:sqlstring}, '')::bigint"
_PATTERN_DAYS = f"""FROM quper.health_pattern_days
WHERE {OF_CLUSTER} AND pattern = ${{pattern:sqlstring}}
  AND day BETWEEN $__timeFrom()::date - 14 AND $__timeTo()::date"""

_PATTERN: list[Panel] = [
    series(
        "Mean run time",
        "Seconds by day (UTC).",
        f"""
SELECT day::timestamp AS "time", execution_us / 1e6 / queries AS mean, max_execution_us / 1e6 AS longest
{_PATTERN_DAYS} ORDER BY day""",
        "s",
        per="1d",
    ),
    series(
        "Runs: all and failed",
        "By day (UTC).",
        f"""
SELECT day::timestamp AS "time", queries - failed AS others, failed
{_PATTERN_DAYS} ORDER BY day""",
        "short",
        stacked=True,
        per="1d",
    ),
    rows(
        "Longest query and last failed query of each day",
        "The query links to its details.",
        f"""
SELECT d.day, d.kind, q.user_name AS "user", q.status, q.queue_time_us / 1e6 AS queue_s,
    q.execution_time_us / 1e6 AS run_s, left(q.query_text, 300) AS statement, q.error_message AS error, d.query_id,
    ${{pattern:sqlstring}} AS pattern
FROM (
    SELECT day, 'longest' AS kind, longest_query_id AS query_id {_PATTERN_DAYS}
    UNION ALL
    SELECT day, 'failed', last_failed_query_id {_PATTERN_DAYS} AND last_failed_query_id IS NOT NULL
) AS d
LEFT JOIN quper.query_history AS q ON q.{OF_CLUSTER} AND q.query_id = d.query_id
ORDER BY d.day DESC, d.kind DESC""",
        units={"queue_s": "s", "run_s": "s"},
        links={"query_id": [TO_STATEMENT], "statement": [TO_STATEMENT]},
        hidden=("pattern",),
        widths={"statement": 560},
    ),
]
_ONE: list[Panel] = [
    rows(
        "The query",
        "The query with the number `query_id`.",
        f"""
SELECT start_time, status, user_name AS "user", application_name AS application, database_name AS database, query_type,
    service_class_name AS queue, queue_time_us / 1e6 AS queue_s, compile_time_us / 1e6 AS compile_s,
    planning_time_us / 1e6 AS plan_s, lock_wait_time_us / 1e6 AS lock_s, execution_time_us / 1e6 AS run_s,
    returned_rows, error_message AS error, query_text AS statement
FROM quper.query_history WHERE {OF_CLUSTER} AND query_id = {_QUERY}""",
        units={"queue_s": "s", "compile_s": "s", "plan_s": "s", "lock_s": "s", "run_s": "s"},
        widths={"statement": 700},
        height=7,
    ),
    rows(
        "Cost",
        "Sums over its steps.",
        f"""
SELECT spilled_mb, blocks_read, rows_scanned, bytes_scanned, rows_returned, rows_inserted, nested_loop_rows,
    broadcast_bytes, distributed_bytes, max_data_skewness_pct, scans, range_restricted_scans, unsorted_rows,
    largest_table_name AS "largest table", largest_table_id AS table_id, '' AS database
FROM quper.query_metrics WHERE {OF_CLUSTER} AND query_id = {_QUERY}""",
        units={
            "spilled_mb": "mbytes",
            "bytes_scanned": "bytes",
            "broadcast_bytes": "bytes",
            "distributed_bytes": "bytes",
        },
        links={"largest table": [TO_TABLE]},
        hidden=("table_id", "database"),
        height=5,
    ),
    rows(
        "Alerts of the query",
        "The table links to its board.",
        f"""
SELECT event_time, event, solution, table_name AS "table", table_id, '' AS database
FROM quper.alert_events WHERE {OF_CLUSTER} AND query_id = {_QUERY} ORDER BY event_time, segment, step""",
        links={"table": [TO_TABLE]},
        hidden=("table_id", "database"),
        height=6,
    ),
]


def build() -> dashboard.Dashboard:
    """Build the board."""
    variables = [CLUSTER, text_variable("pattern", "generic_query_hash"), text_variable("query_id", "query_id")]
    text = "One statement pattern of a Redshift cluster, and one of its queries."
    return board(STATEMENT_UID, "Redshift statement", text, [*variables], {"Pattern": _PATTERN, "Query": _ONE})
