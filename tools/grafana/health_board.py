"""The board of a cluster's health: what to fix first, storage, queries, tables."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from tools.grafana.panels import Panel, board, chosen, link, numbers, query_variable, rows, series

UID, TABLE_UID, STATEMENT_UID = "qupersync-redshift", "qupersync-redshift-table", "qupersync-redshift-statement"
CLUSTER = query_variable("cluster", "cluster", "SELECT cluster FROM quper.health_evaluations ORDER BY cluster")
OF_CLUSTER = "cluster = ${cluster:sqlstring}"

_DATABASE = query_variable(
    "database",
    "database",
    f"SELECT DISTINCT database FROM quper.table_stats_current WHERE {OF_CLUSTER} ORDER BY database",
    several=True,
)
_USER = query_variable(
    "user",
    "user",
    f"SELECT DISTINCT user_name FROM quper.health_query_hours WHERE {OF_CLUSTER} AND $__timeFilter(hour) ORDER BY 1",
    several=True,
)
_HOURS = f"""FROM quper.health_query_hours
WHERE {OF_CLUSTER} AND $__timeFilter(hour)
  AND {chosen("database_name", "database")} AND {chosen("user_name", "user")}"""
_TABLES = f"FROM quper.table_stats_current AS t WHERE t.{OF_CLUSTER} AND {chosen('t.database', 'database')}"
_NAME = "t.schema || '.' || t.table_name AS \"table\""
TO_TABLE = link("Show the table", TABLE_UID, table_id="table_id", database="database")
TO_STATEMENT = link("Show the statement", STATEMENT_UID, pattern="pattern", query_id="query_id")
_OF_TABLE = {"table": [TO_TABLE]}
_KEYS = ("table_id", "database", "pattern", "query_id")

_FIX: list[Panel] = [
    numbers(
        "Open findings",
        "Findings that are open now, by severity.",
        f"""
SELECT count(*) FILTER (WHERE severity = 'critical') AS critical,
    count(*) FILTER (WHERE severity = 'warning') AS warning, count(*) FILTER (WHERE severity = 'info') AS info
FROM quper.health_findings WHERE {OF_CLUSTER} AND resolved_at IS NULL""",
        width=12,
    ),
    series(
        "New and resolved findings",
        "Findings by day.",
        f"""
SELECT $__timeGroup(at, '1d') AS "time", sum(new) AS new, sum(resolved) AS resolved
FROM (
    SELECT opened_at AS at, count(*) AS new, 0 AS resolved FROM quper.health_findings
    WHERE {OF_CLUSTER} GROUP BY opened_at
    UNION ALL
    SELECT resolved_at, 0, count(*) FROM quper.health_findings WHERE {OF_CLUSTER} GROUP BY resolved_at
) AS f
WHERE $__timeFilter(at) GROUP BY 1 ORDER BY 1""",
        "short",
        stacked=True,
        per="1d",
    ).height(5),
    rows(
        "Fix first",
        "Open findings, the most urgent first. The object links to its table or statement.",
        f"""
SELECT severity, title, object, value, unit, since, size_mb, times, times_are, note, remedy, documentation, table_id,
    database, pattern, query_id
FROM quper.health_open
WHERE {OF_CLUSTER} AND (database IS NULL OR {chosen("database", "database")})
ORDER BY severity_rank, priority DESC, since
LIMIT 500""",
        units={"size_mb": "mbytes"},
        links={"object": [TO_TABLE, TO_STATEMENT]},
        hidden=_KEYS,
        widths={"severity": 90, "title": 270, "object": 260, "value": 100, "unit": 90, "remedy": 420},
        height=12,
    ),
]

_STORAGE: list[Panel] = [
    series(
        "Used space by node",
        "Percent of the capacity of each node, by day.",
        f"""
SELECT $__timeGroup(day, '1d') AS "time", 'node ' || node AS metric,
    max(100.0 * used_mb / nullif(capacity_mb, 0)) AS used
FROM quper.node_details_by_day
WHERE {OF_CLUSTER} AND day BETWEEN $__timeFrom()::timestamptz - interval '30 days' AND $__timeTo()::date
GROUP BY 1, 2 ORDER BY 1, 2""",
        "percent",
        per="1d",
    ),
    rows(
        "Day on which a node is full",
        "At the rate of the last 30 days.",
        f"""
SELECT node, max(used_mb) AS used_mb, max(capacity_mb) AS capacity_mb, max(used_pct) AS used_pct,
    round(max(slope), 1) AS growth_mb_per_day,
    CASE WHEN max(slope) > 0
        THEN current_date + least(ceil((max(capacity_mb) - max(used_mb)) / max(slope)), 36500)::integer END AS full_on
FROM (
    SELECT node, last_value(used_mb) OVER w AS used_mb, last_value(capacity_mb) OVER w AS capacity_mb,
        round(100.0 * last_value(used_mb) OVER w / nullif(last_value(capacity_mb) OVER w, 0), 1) AS used_pct,
        regr_slope(used_mb, day - current_date) OVER w::numeric AS slope
    FROM quper.node_details_by_day WHERE {OF_CLUSTER} AND day >= current_date - 30
    WINDOW w AS (PARTITION BY node ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
) AS n GROUP BY node ORDER BY full_on, node""",
        units={"used_mb": "mbytes", "capacity_mb": "mbytes", "growth_mb_per_day": "mbytes", "used_pct": "percent"},
        width=12,
        height=8,
    ),
    rows(
        "Largest tables",
        "The 100 largest, with their growth in the last seven days.",
        f"""
SELECT {_NAME}, t.size_mb, t.size_mb - d.size_mb AS growth_mb, t.tbl_rows, t.diststyle, t.sort_key1, t.skew_rows,
    t.unsorted_pct, t.stats_off_pct, t.pct_rows_marked_for_deletion AS deleted_pct, t.last_vacuum_date, t.table_id,
    t.database
FROM (SELECT t.* {_TABLES} ORDER BY t.size_mb DESC LIMIT 100) AS t
LEFT JOIN LATERAL (
    SELECT size_mb FROM quper.table_stats_daily AS d
    WHERE d.cluster = t.cluster AND d.table_id = t.table_id AND d.database = t.database AND d.day <= current_date - 7
    ORDER BY d.day DESC LIMIT 1
) AS d ON true
ORDER BY t.size_mb DESC""",
        units={"size_mb": "mbytes", "growth_mb": "mbytes", "unsorted_pct": "percent", "stats_off_pct": "percent"},
        links=_OF_TABLE,
        hidden=("table_id",),
    ),
]

_QUERIES: list[Panel] = [
    series(
        "Query time by phase",
        "Seconds of all queries together, by the hour in which they began.",
        f"""
SELECT $__timeGroup(hour, $__interval) AS "time", sum(execution_us) / 1e6 AS run, sum(queue_us) / 1e6 AS queue,
    sum(compile_us) / 1e6 AS compile, sum(planning_us) / 1e6 AS plan, sum(lock_wait_us) / 1e6 AS lock
{_HOURS} GROUP BY 1 ORDER BY 1""",
        "s",
        stacked=True,
        per="1h",
    ),
    series(
        "Waiting time by queue",
        "Percent of the elapsed time of queries that they waited in the queue.",
        f"""
SELECT $__timeGroup(hour, $__interval) AS "time", coalesce(nullif(service_class_name, ''), 'no queue') AS metric,
    100.0 * sum(queue_us) / nullif(sum(elapsed_us), 0) AS waiting
{_HOURS} GROUP BY 1, 2 ORDER BY 1, 2""",
        "percent",
        per="1h",
    ),
    series(
        "Queries: all and failed",
        "Queries by the hour in which they began.",
        f"""
SELECT $__timeGroup(hour, $__interval) AS "time", sum(queries - failed) AS others, sum(failed) AS failed
{_HOURS} GROUP BY 1 ORDER BY 1""",
        "short",
        stacked=True,
        per="1h",
    ),
    series(
        "Spill to disk",
        "MB that queries spilled, by the hour in which they began.",
        f'SELECT $__timeGroup(hour, $__interval) AS "time", sum(spilled_mb) AS spilled\n{_HOURS} GROUP BY 1 ORDER BY 1',
        "mbytes",
        stacked=True,
        per="1h",
    ),
    rows(
        "Statements by run time, compared with the week before",
        "Statement patterns (without literals) of the days in the time range; `mean_before_s` is the mean of the seven "
        "days before it. Not filtered by database and user.",
        f"""
SELECT left(q.query_text, 200) AS statement, n.queries, n.failed, round(n.us / 1e6, 1) AS run_s,
    round(n.us / 1e6 / n.queries, 2) AS mean_s, round(b.us / 1e6 / b.queries, 2) AS mean_before_s,
    round((n.us / n.queries) / nullif(b.us / b.queries, 0), 2) AS ratio, n.spilled_mb, n.pattern, n.query_id
FROM (
    SELECT pattern, sum(queries) AS queries, sum(failed) AS failed, sum(execution_us) AS us,
        sum(spilled_mb) AS spilled_mb, max(longest_query_id) AS query_id
    FROM quper.health_pattern_days WHERE {OF_CLUSTER} AND day BETWEEN $__timeFrom()::date AND $__timeTo()::date
    GROUP BY pattern ORDER BY us DESC LIMIT 50
) AS n
LEFT JOIN LATERAL (
    SELECT sum(queries) AS queries, sum(execution_us) AS us FROM quper.health_pattern_days AS p
    WHERE p.{OF_CLUSTER} AND p.pattern = n.pattern
      AND p.day BETWEEN $__timeFrom()::date - 7 AND $__timeFrom()::date - 1
) AS b ON true
LEFT JOIN quper.query_history AS q ON q.{OF_CLUSTER} AND q.query_id = n.query_id
ORDER BY n.us DESC""",
        units={"run_s": "s", "mean_s": "s", "mean_before_s": "s", "spilled_mb": "mbytes"},
        links={"statement": [TO_STATEMENT]},
        hidden=("query_id",),
        widths={"statement": 620},
    ),
    rows(
        "Users and applications",
        "Run time of the queries in the time range, and its share.",
        f"""
SELECT user_name AS "user", application_name AS application, sum(queries) AS queries, sum(failed) AS failed,
    round(sum(execution_us) / 1e6, 1) AS run_s, sum(spilled_mb) AS spilled_mb,
    round(100.0 * sum(execution_us) / nullif(sum(sum(execution_us)) OVER (), 0), 1) AS share_pct
{_HOURS} GROUP BY 1, 2 ORDER BY run_s DESC LIMIT 100""",
        units={"run_s": "s", "spilled_mb": "mbytes", "share_pct": "percent"},
        width=12,
    ),
    rows(
        "Errors of the newest 1,000 failed queries",
        "By text of the error.",
        f"""
SELECT error_message AS error, count(*) AS queries, count(DISTINCT user_name) AS users, max(start_time) AS last_at,
    (array_agg(query_id ORDER BY start_time DESC))[1] AS query_id,
    (array_agg(generic_query_hash ORDER BY start_time DESC))[1] AS pattern
FROM (
    SELECT * FROM quper.query_history
    WHERE {OF_CLUSTER} AND status = 'failed' AND $__timeFilter(start_time)
      AND {chosen("database_name", "database")} AND {chosen("user_name", "user")}
    ORDER BY start_time DESC LIMIT 1000
) AS f GROUP BY 1 ORDER BY queries DESC""",
        links={"error": [TO_STATEMENT]},
        hidden=("query_id", "pattern"),
        width=12,
    ),
]

_ABOUT_TABLES: list[Panel] = [
    rows(
        "Alerts by table",
        "Alerts of the query planner, from the newest 10,000 in the time range.",
        f"""
SELECT a.table_name AS "table", a.event, a.alerts, a.queries, a.last_at, a.solution, a.table_id, '' AS database
FROM (
    SELECT table_name, table_id, split_part(event, ':', 1) AS event, count(*) AS alerts,
        count(DISTINCT query_id) AS queries, max(event_time) AS last_at, max(solution) AS solution
    FROM (
        SELECT * FROM quper.alert_events WHERE {OF_CLUSTER} AND $__timeFilter(event_time)
        ORDER BY event_time DESC LIMIT 10000
    ) AS newest
    GROUP BY 1, 2, 3
) AS a
ORDER BY a.alerts DESC LIMIT 100""",
        links=_OF_TABLE,
        hidden=("table_id", "database"),
    ),
    rows(
        "Statistics out of date",
        "Tables whose statistics are off by more than 10 %; ANALYZE renews them.",
        f"SELECT {_NAME}, t.stats_off_pct, t.size_mb, t.tbl_rows, t.table_id, t.database\n{_TABLES} "
        "AND t.stats_off_pct > 10\nORDER BY t.size_mb DESC LIMIT 100",
        units={"size_mb": "mbytes", "stats_off_pct": "percent"},
        links=_OF_TABLE,
        hidden=("table_id",),
        width=12,
    ),
    rows(
        "Tables that no query read",
        "Tables without a scan in the last 30 days.",
        f"""
SELECT {_NAME}, t.size_mb, t.tbl_rows, t.create_time, t.table_id, t.database
{_TABLES} AND NOT EXISTS (
    SELECT FROM quper.table_scan_stats AS s
    WHERE s.cluster = t.cluster AND s.table_id = t.table_id AND s.scan_hour >= now() - interval '30 days'
)
ORDER BY t.size_mb DESC LIMIT 100""",
        units={"size_mb": "mbytes"},
        links=_OF_TABLE,
        hidden=("table_id",),
        width=12,
    ),
    rows(
        "Vacuums",
        "The newest 200 in the time range.",
        f"""
SELECT started_at, schema_name || '.' || table_name AS "table", vacuum_type, outcome, is_automatic, duration_s,
    rows_reclaimed, mb_reclaimed, table_id, database_name AS database
FROM quper.vacuums WHERE {OF_CLUSTER} AND $__timeFilter(started_at) AND {chosen("database_name", "database")}
ORDER BY started_at DESC LIMIT 200""",
        units={"duration_s": "s", "mb_reclaimed": "mbytes"},
        links=_OF_TABLE,
        hidden=("table_id",),
    ),
]


def build() -> dashboard.Dashboard:
    """Build the board."""
    text = "The health of a Redshift cluster, from the tables of QuperSync in PostgreSQL."
    sections = {"Fix first": _FIX, "Storage": _STORAGE, "Queries": _QUERIES, "Tables": _ABOUT_TABLES}
    return board(UID, "Redshift health", text, [CLUSTER, _DATABASE, _USER], sections)
