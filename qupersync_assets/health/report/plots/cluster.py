"""Plots of what the cluster did: storage, time of queries, queues, statements, users and spill."""

from qupersync_assets.health.report.plots.plot import TODAY, WEEK, Plot

STORAGE = Plot(
    "storage",
    "Storage",
    "When is the disk full?",
    "Used space by day, in percent of the capacity. The dashed lines go on at the rate of the last 30 days.",
    f"""
WITH days AS (
    SELECT day, node, used_mb, capacity_mb, 100.0 * used_mb / nullif(capacity_mb, 0) AS used_pct
    FROM quper.node_details_by_day WHERE cluster = :cluster AND day >= {TODAY} - 45
), fullest AS (
    SELECT node FROM days WHERE day = (SELECT max(day) FROM days) ORDER BY used_pct DESC NULLS LAST, node LIMIT 1
), used AS (
    SELECT day, max(used_pct) FILTER (WHERE node IN (SELECT node FROM fullest)) AS fullest_pct,
        100.0 * sum(used_mb) / nullif(sum(capacity_mb), 0) AS all_pct, sum(used_mb) AS used_mb,
        sum(capacity_mb) AS capacity_mb
    FROM days GROUP BY day
), fit AS (
    SELECT regr_slope(fullest_pct, day - {TODAY}) AS fullest_slope, max(day) AS last_day,
        regr_intercept(fullest_pct, day - {TODAY}) AS fullest_now, regr_slope(all_pct, day - {TODAY}) AS all_slope,
        regr_intercept(all_pct, day - {TODAY}) AS all_now
    FROM used WHERE day >= {TODAY} - 30 HAVING count(*) >= 3
), forecast AS (
    SELECT fit.*, CASE WHEN fullest_slope > 0 AND (100 - fullest_now) / fullest_slope < 3650
        THEN {TODAY} + greatest(0, ceil((100 - fullest_now) / fullest_slope))::integer END AS full_on
    FROM fit
)
SELECT day, round(fullest_pct, 1) AS fullest_pct, round(all_pct, 1) AS all_pct, round(used_mb / 1024.0, 1) AS used_gb,
    round(capacity_mb / 1024.0, 1) AS capacity_gb, false AS is_forecast, NULL AS full_on
FROM used
UNION ALL
SELECT {TODAY} + n, round(greatest(0, least(100, fullest_now + fullest_slope * n))::numeric, 1),
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
    "Hours that each statement pattern ran in the last seven days and in the seven days before. A pattern is a "
    "statement without its literals.",
    f"""
SELECT row_number() OVER (ORDER BY p.now_us DESC, p.pattern) || '  '
        || left(regexp_replace(coalesce(q.query_text, '(no text)'), '[[:space:]]+', ' ', 'g'), 60) AS statement,
    round(p.now_us / 3.6e9, 2) AS hours, round(coalesce(p.before_us, 0) / 3.6e9, 2) AS hours_before, p.queries,
    p.queries_before, round(p.now_us / 1e6 / p.queries, 2) AS mean_s,
    round(p.before_us / 1e6 / nullif(p.queries_before, 0), 2) AS mean_before_s, p.pattern
FROM (
    SELECT generic_query_hash AS pattern, sum(execution_time_us) FILTER (WHERE start_time >= {WEEK}) AS now_us,
        sum(execution_time_us) FILTER (WHERE start_time < {WEEK}) AS before_us,
        count(execution_time_us) FILTER (WHERE start_time >= {WEEK}) AS queries,
        count(execution_time_us) FILTER (WHERE start_time < {WEEK}) AS queries_before,
        max(query_id) FILTER (WHERE start_time >= {WEEK}) AS query_id
    FROM quper.query_history
    WHERE cluster = :cluster AND start_time >= {WEEK} - interval '7 days' AND generic_query_hash IS NOT NULL
    GROUP BY generic_query_hash
    HAVING sum(execution_time_us) FILTER (WHERE start_time >= {WEEK}) > 0
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
WHERE cluster = :cluster AND start_time >= {WEEK}
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
