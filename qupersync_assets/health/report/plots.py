"""The plots of the health page: each is a question, one SELECT, and how its rows are drawn.

The parameters are `cluster` and `now`. Columns of a SELECT that are not drawn are in the table below the plot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Plot:
    """One question, and its answer.

    Attributes:
        id: its anchor in the page.
        name: a word for it, for links.
        title: the question.
        text: what the plot shows, with units.
        sql: the SELECT.
        kind: lines or columns over time, or bars from the largest value to the smallest.
        x: the column of the time, or of the names of bars.
        values: the columns that are drawn, with their names in the legend, in its order.
        unit: of the drawn values.
        headings: of the columns in the table, with units; other columns are left out.
        nothing: what it means that there is no row.
        series: the column whose values are drawn as different series of the one column of `values`.
        marks: values with a line across the plot, with its text.
        headline: a sentence with columns of the last row in braces; without their values there is none.
        is_wide: whether the plot takes the whole width of the page.
    """

    id: str
    name: str
    title: str
    text: str
    sql: str
    kind: Literal["lines", "columns", "bars", "stacked bars"]
    x: str
    values: Mapping[str, str]
    unit: str
    headings: Mapping[str, str]
    nothing: str
    series: str = ""
    marks: Mapping[float, str] = field(default_factory=dict)
    headline: str = ""
    is_wide: bool = False


# The name of a table; with its database if the cluster has several.
_TABLE = """concat_ws('.', CASE WHEN (SELECT count(DISTINCT database) FROM quper.table_stats_current AS a
    WHERE a.cluster = :cluster) > 1 THEN t.database END, t.schema, t.table_name) AS table_name"""
_TODAY = "(CAST(:now AS timestamptz) AT TIME ZONE 'UTC')::date"
_WEEK = "CAST(:now AS timestamptz) - interval '7 days'"

STORAGE = Plot(
    "storage",
    "Storage",
    "When is the disk full?",
    "Used space by day, in percent of the capacity. The dashed lines go on at the rate of the last 30 days.",
    f"""
WITH days AS (
    SELECT day, node, used_mb, capacity_mb, 100.0 * used_mb / nullif(capacity_mb, 0) AS used_pct
    FROM quper.node_details_by_day WHERE cluster = :cluster AND day >= {_TODAY} - 45
), fullest AS (
    SELECT node FROM days WHERE day = (SELECT max(day) FROM days) ORDER BY used_pct DESC NULLS LAST, node LIMIT 1
), used AS (
    SELECT day, max(used_pct) FILTER (WHERE node IN (SELECT node FROM fullest)) AS fullest_pct,
        100.0 * sum(used_mb) / nullif(sum(capacity_mb), 0) AS all_pct, sum(used_mb) AS used_mb,
        sum(capacity_mb) AS capacity_mb
    FROM days GROUP BY day
), fit AS (
    SELECT regr_slope(fullest_pct, day - {_TODAY}) AS fullest_slope, max(day) AS last_day,
        regr_intercept(fullest_pct, day - {_TODAY}) AS fullest_now, regr_slope(all_pct, day - {_TODAY}) AS all_slope,
        regr_intercept(all_pct, day - {_TODAY}) AS all_now
    FROM used WHERE day >= {_TODAY} - 30 HAVING count(*) >= 3
), forecast AS (
    SELECT fit.*, CASE WHEN fullest_slope > 0 AND (100 - fullest_now) / fullest_slope < 3650
        THEN {_TODAY} + greatest(0, ceil((100 - fullest_now) / fullest_slope))::integer END AS full_on
    FROM fit
)
SELECT day, round(fullest_pct, 1) AS fullest_pct, round(all_pct, 1) AS all_pct, round(used_mb / 1024.0, 1) AS used_gb,
    round(capacity_mb / 1024.0, 1) AS capacity_gb, false AS is_forecast, NULL AS full_on
FROM used
UNION ALL
SELECT {_TODAY} + n, round(greatest(0, least(100, fullest_now + fullest_slope * n))::numeric, 1),
    round(greatest(0, least(100, all_now + all_slope * n))::numeric, 1), NULL, NULL, true, full_on
FROM forecast, generate_series(0, 30, 5) AS n
ORDER BY is_forecast, day""",
    "lines",
    "day",
    {"fullest_pct": "fullest node", "all_pct": "all nodes together"},
    "% of capacity",
    {
        "day": "Day (UTC)",
        "fullest_pct": "Fullest node, %",
        "all_pct": "All nodes, %",
        "used_gb": "Used, GB",
        "capacity_gb": "Capacity, GB",
        "is_forecast": "Forecast",
    },
    "No space of nodes is recorded: Serverless workgroups have no nodes.",
    headline="At this rate the fullest node is full on {full_on}.",
    marks={70: "70 %: plan more space", 100: "full"},
    is_wide=True,
)

PHASES = Plot(
    "phases",
    "Query time",
    "Where does the time of queries go?",
    "Seconds of all queries together, by the hour (UTC) in which they began, in the last 48 hours. A cluster runs many "
    "queries at once, so an hour can have more than 3,600 seconds.",
    """
SELECT date_trunc('hour', start_time) AS hour, count(*) AS queries, round(sum(execution_time_us) / 1e6, 1) AS run_s,
    round(sum(queue_time_us) / 1e6, 1) AS queue_s, round(sum(compile_time_us) / 1e6, 1) AS compile_s,
    round(sum(planning_time_us) / 1e6, 1) AS plan_s, round(sum(lock_wait_time_us) / 1e6, 1) AS lock_s
FROM quper.query_history
WHERE cluster = :cluster AND start_time >= date_trunc('hour', CAST(:now AS timestamptz)) - interval '47 hours'
GROUP BY hour
ORDER BY hour""",
    "columns",
    "hour",
    {"run_s": "run", "queue_s": "wait in queue", "compile_s": "compile", "plan_s": "plan", "lock_s": "wait for lock"},
    "seconds",
    {
        "hour": "Hour (UTC)",
        "queries": "Queries",
        "run_s": "Run, s",
        "queue_s": "Queue, s",
        "compile_s": "Compile, s",
        "plan_s": "Plan, s",
        "lock_s": "Lock, s",
    },
    "No query began in the last 48 hours.",
    is_wide=True,
)

QUEUEING = Plot(
    "queueing",
    "Queues",
    "Which queues make queries wait?",
    "Seconds that queries waited, by queue and by the hour (UTC) in which they began, in the last 48 hours.",
    """
SELECT date_trunc('hour', start_time) AS hour, coalesce(service_class_name, 'no queue') AS queue, count(*) AS queries,
    round(sum(queue_time_us) / 1e6, 1) AS queue_s,
    round(100.0 * sum(queue_time_us) / nullif(sum(elapsed_time_us), 0), 1) AS queue_pct
FROM quper.query_history
WHERE cluster = :cluster AND start_time >= date_trunc('hour', CAST(:now AS timestamptz)) - interval '47 hours'
GROUP BY 1, 2
HAVING sum(queue_time_us) > 0
ORDER BY 1, 2""",
    "columns",
    "hour",
    {"queue_s": ""},
    "seconds in the queue",
    {
        "hour": "Hour (UTC)",
        "queue": "Queue",
        "queries": "Queries",
        "queue_s": "Wait, s",
        "queue_pct": "Wait, % of elapsed time",
    },
    "No query waited in the last 48 hours.",
    series="queue",
    is_wide=True,
)

PATTERNS = Plot(
    "patterns",
    "Statements",
    "Which statements take most time, and did they get slower?",
    "Hours that each statement pattern ran in the last seven days, beside the seven days before. A pattern is a "
    "statement without its literals.",
    f"""
SELECT row_number() OVER (ORDER BY p.now_us DESC, p.pattern) || '  '
        || left(regexp_replace(coalesce(q.query_text, '(no text)'), '[[:space:]]+', ' ', 'g'), 60) AS statement,
    round(p.now_us / 3.6e9, 2) AS hours, round(coalesce(p.before_us, 0) / 3.6e9, 2) AS hours_before, p.queries,
    p.queries_before, round(p.now_us / 1e6 / p.queries, 2) AS mean_s,
    round(p.before_us / 1e6 / nullif(p.queries_before, 0), 2) AS mean_before_s, p.pattern
FROM (
    SELECT generic_query_hash AS pattern, sum(execution_time_us) FILTER (WHERE start_time >= {_WEEK}) AS now_us,
        sum(execution_time_us) FILTER (WHERE start_time < {_WEEK}) AS before_us,
        count(execution_time_us) FILTER (WHERE start_time >= {_WEEK}) AS queries,
        count(execution_time_us) FILTER (WHERE start_time < {_WEEK}) AS queries_before,
        max(query_id) FILTER (WHERE start_time >= {_WEEK}) AS query_id
    FROM quper.query_history
    WHERE cluster = :cluster AND start_time >= {_WEEK} - interval '7 days' AND generic_query_hash IS NOT NULL
    GROUP BY generic_query_hash
    HAVING sum(execution_time_us) FILTER (WHERE start_time >= {_WEEK}) > 0
    ORDER BY now_us DESC, generic_query_hash
    LIMIT 10
) AS p
LEFT JOIN quper.query_history AS q ON q.cluster = :cluster AND q.query_id = p.query_id
ORDER BY p.now_us DESC, p.pattern""",
    "bars",
    "statement",
    {"hours": "last 7 days", "hours_before": "7 days before"},
    "hours of run time",
    {
        "statement": "Statement",
        "hours": "Run, h",
        "hours_before": "Before, h",
        "queries": "Queries",
        "queries_before": "Before",
        "mean_s": "Mean, s",
        "mean_before_s": "Before, s",
        "pattern": "generic_query_hash",
    },
    "No query ran in the last seven days.",
    is_wide=True,
)

USERS = Plot(
    "users",
    "Users",
    "Who uses the cluster?",
    "Hours that the queries of each user ran in the last seven days; the ten users with most.",
    f"""
SELECT coalesce(user_name, 'user ' || user_id) AS user_name, round(sum(execution_time_us) / 3.6e9, 2) AS hours,
    round(100.0 * sum(execution_time_us) / nullif(sum(sum(execution_time_us)) OVER (), 0), 1) AS share_pct,
    count(*) AS queries, count(*) FILTER (WHERE status = 'failed') AS failed,
    count(DISTINCT application_name) AS applications
FROM quper.query_history
WHERE cluster = :cluster AND start_time >= {_WEEK}
GROUP BY 1
HAVING sum(execution_time_us) > 0
ORDER BY sum(execution_time_us) DESC
LIMIT 10""",
    "bars",
    "user_name",
    {"hours": ""},
    "hours of run time",
    {
        "user_name": "User",
        "hours": "Run, h",
        "share_pct": "Share, %",
        "queries": "Queries",
        "failed": "Failed",
        "applications": "Applications",
    },
    "No query ran in the last seven days.",
)

SPILL = Plot(
    "spill",
    "Spill",
    "How much did queries spill to disk?",
    "GB by day (UTC), in the last 14 days. A query spills if its intermediate rows do not fit into memory.",
    """
SELECT date_trunc('day', start_time AT TIME ZONE 'UTC')::date AS day, count(*) AS queries,
    round(sum(coalesce(spilled_local_mb, 0)) / 1024, 2) AS local_gb,
    round(sum(coalesce(spilled_remote_mb, 0)) / 1024, 2) AS remote_gb,
    round(max(spilled_mb) / 1024, 2) AS most_gb
FROM quper.query_metrics
WHERE cluster = :cluster AND spilled_mb > 0 AND start_time >= CAST(:now AS timestamptz) - interval '14 days'
GROUP BY day
ORDER BY day""",
    "columns",
    "day",
    {"local_gb": "local disk", "remote_gb": "remote storage"},
    "GB",
    {
        "day": "Day (UTC)",
        "queries": "Queries that spilled",
        "local_gb": "Local, GB",
        "remote_gb": "Remote, GB",
        "most_gb": "Most of one query, GB",
    },
    "No query spilled in the last 14 days.",
)

LARGEST = Plot(
    "largest",
    "Largest tables",
    "Which tables are largest?",
    "Size in GB; the 15 largest tables.",
    f"""
SELECT {_TABLE}, round(t.size_mb / 1024.0, 2) AS size_gb, t.tbl_rows, t.pct_used AS used_pct, t.diststyle, t.sort_key1
FROM quper.table_stats_current AS t
WHERE t.cluster = :cluster AND t.size_mb > 0
ORDER BY t.size_mb DESC
LIMIT 15""",
    "bars",
    "table_name",
    {"size_gb": ""},
    "GB",
    {
        "table_name": "Table",
        "size_gb": "Size, GB",
        "tbl_rows": "Rows",
        "used_pct": "Of the cluster, %",
        "diststyle": "Distribution",
        "sort_key1": "Sort key",
    },
    "No table has rows.",
)

GROWING = Plot(
    "growing",
    "Growth",
    "Which tables grow fastest?",
    "GB that were added in the last seven days, or since the first day of a younger table; the 15 tables with most.",
    f"""
SELECT {_TABLE}, round((t.size_mb - b.size_mb) / 1024.0, 2) AS grown_gb,
    round(100.0 * (t.size_mb - b.size_mb) / nullif(b.size_mb, 0), 1) AS grown_pct,
    round(t.size_mb / 1024.0, 2) AS size_gb, b.day AS since
FROM quper.table_stats_current AS t
CROSS JOIN LATERAL (
    SELECT d.day, d.size_mb FROM quper.table_stats_daily AS d
    WHERE d.cluster = t.cluster AND d.table_id = t.table_id AND d.database = t.database AND NOT d.removed
    ORDER BY d.day <= {_TODAY} - 7 DESC, CASE WHEN d.day <= {_TODAY} - 7 THEN {_TODAY} - d.day ELSE d.day - {_TODAY} END
    LIMIT 1
) AS b
WHERE t.cluster = :cluster AND t.size_mb > b.size_mb
ORDER BY t.size_mb - b.size_mb DESC
LIMIT 15""",
    "bars",
    "table_name",
    {"grown_gb": ""},
    "GB in seven days",
    {
        "table_name": "Table",
        "grown_gb": "Growth, GB",
        "grown_pct": "Growth, %",
        "size_gb": "Size now, GB",
        "since": "Since",
    },
    "No table has grown in the last seven days.",
)

ALERTS = Plot(
    "alerts",
    "Alerts",
    "Which tables cause alerts?",
    "Alerts of the query planner in the last seven days, by table and kind; the 10 tables with most.",
    f"""
WITH counted AS (
    SELECT coalesce((
            SELECT max(t.schema || '.' || t.table_name) FROM quper.table_stats AS t
            WHERE t.cluster = :cluster AND t.table_id = a.table_id
        ), table_name, '(no table)') AS table_name, event, alerts, queries, last_at, solution
    FROM (
        SELECT table_id, table_name, split_part(event, ':', 1) AS event, count(*) AS alerts,
            count(DISTINCT query_id) AS queries, max(event_time) AS last_at, max(solution) AS solution
        FROM quper.alert_events WHERE cluster = :cluster AND event_time >= {_WEEK} GROUP BY 1, 2, 3
    ) AS a
), ranked AS (
    SELECT table_name, sum(alerts) AS total FROM counted GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10
)
SELECT table_name, event, alerts, queries, last_at, solution FROM counted JOIN ranked USING (table_name)
ORDER BY total DESC, table_name, alerts DESC""",
    "stacked bars",
    "table_name",
    {"alerts": ""},
    "alerts",
    {
        "table_name": "Table",
        "event": "Alert",
        "alerts": "Alerts",
        "queries": "Queries",
        "last_at": "Last (UTC)",
        "solution": "What AWS recommends",
    },
    "The planner raised no alert in the last seven days.",
    series="event",
    is_wide=True,
)

STATISTICS = Plot(
    "statistics",
    "Statistics",
    "Which statistics are out of date?",
    "How far the statistics of a table are off, in percent; the 15 largest tables above 10 %. ANALYZE renews them.",
    f"""
SELECT {_TABLE}, t.stats_off_pct, round(t.size_mb / 1024.0, 2) AS size_gb, t.tbl_rows
FROM quper.table_stats_current AS t
WHERE t.cluster = :cluster AND t.stats_off_pct > 10
ORDER BY t.size_mb DESC
LIMIT 15""",
    "bars",
    "table_name",
    {"stats_off_pct": ""},
    "% out of date",
    {"table_name": "Table", "stats_off_pct": "Out of date, %", "size_gb": "Size, GB", "tbl_rows": "Rows"},
    "The statistics of all tables are at most 10 % out of date.",
)

UNUSED = Plot(
    "unused",
    "Unused tables",
    "Which tables does no query read?",
    "Size in GB of tables that no query scanned in the last 30 days; the 15 largest.",
    f"""
SELECT {_TABLE}, round(t.size_mb / 1024.0, 2) AS size_gb, t.tbl_rows, t.create_time,
    (SELECT max(last_scan_at) FROM quper.table_scan_stats AS s
     WHERE s.cluster = t.cluster AND s.table_id = t.table_id) AS last_scan_at
FROM quper.table_stats_current AS t
WHERE t.cluster = :cluster AND NOT EXISTS (
    SELECT FROM quper.table_scan_stats AS s WHERE s.cluster = t.cluster AND s.table_id = t.table_id
    AND s.scan_hour >= CAST(:now AS timestamptz) - interval '30 days')
ORDER BY t.size_mb DESC
LIMIT 15""",
    "bars",
    "table_name",
    {"size_gb": ""},
    "GB",
    {
        "table_name": "Table",
        "size_gb": "Size, GB",
        "tbl_rows": "Rows",
        "create_time": "Created (UTC)",
        "last_scan_at": "Last scan (UTC)",
    },
    "Every table was scanned in the last 30 days.",
)

PLOTS = (STORAGE, PHASES, QUEUEING, PATTERNS, USERS, SPILL, LARGEST, GROWING, ALERTS, STATISTICS, UNUSED)
