"""Plots of tables: size, growth, alerts, statistics and use."""

from qupersync_assets.health.report.plots.plot import TODAY, WEEK, Plot

# The name of a table; with its database if the cluster has several.
_TABLE = """concat_ws('.', CASE WHEN (SELECT count(DISTINCT database) FROM quper.table_stats_current AS a
    WHERE a.cluster = :cluster) > 1 THEN t.database END, t.schema, t.table_name) AS table_name"""
_SIZE = f"{_TABLE}, round(t.size_mb / 1024.0, 2) AS size_gb, t.tbl_rows"
_SIZE_HEADINGS = {"table_name": "Table", "size_gb": "Size, GB", "tbl_rows": "Rows"}

LARGEST = Plot(
    "largest",
    "Largest tables",
    "Which tables are largest?",
    "Size in GB; the 15 largest tables.",
    f"""
SELECT {_SIZE}, t.pct_used AS used_pct, t.diststyle, t.sort_key1
FROM quper.table_stats_current AS t
WHERE t.cluster = :cluster AND t.size_mb > 0
ORDER BY t.size_mb DESC
LIMIT 15""",
    "bars",
    "table_name",
    {"size_gb": ""},
    "GB",
    _SIZE_HEADINGS | {"used_pct": "Of the cluster, %", "diststyle": "Distribution", "sort_key1": "Sort key"},
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
    ORDER BY d.day <= {TODAY} - 7 DESC, CASE WHEN d.day <= {TODAY} - 7 THEN {TODAY} - d.day ELSE d.day - {TODAY} END
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
        FROM quper.alert_events WHERE cluster = :cluster AND event_time >= {WEEK} GROUP BY 1, 2, 3
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
SELECT {_SIZE}, t.create_time,
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
    _SIZE_HEADINGS | {"create_time": "Created (UTC)", "last_scan_at": "Last scan (UTC)"},
    "Every table was scanned in the last 30 days.",
)
