-- The pages that readers ask for, each one SELECT. 'default' is the cluster's name: CLUSTER_NAME, or one of CLUSTERS.
-- docs/pages.md shows them; docs/benchmark.md has their times.

-- Running now
SELECT query_id, user_name, status, start_time, now() - start_time AS running_for, left(query_text, 100) AS query_text
FROM quper.query_history
WHERE cluster = 'default' AND status NOT IN ('success', 'failed', 'canceled', 'stale', 'unknown')
ORDER BY start_time DESC;

-- The newest 100 queries
SELECT start_time, query_id, user_name, application_name, status, elapsed_time_us, left(query_text, 100) AS query_text
FROM quper.query_history
WHERE cluster = 'default'
ORDER BY start_time DESC
LIMIT 100;

-- The 50 longest queries
SELECT execution_time_us, start_time, query_id, user_name, query_type, left(query_text, 100) AS query_text
FROM quper.query_history
WHERE cluster = 'default'
ORDER BY execution_time_us DESC
LIMIT 50;

-- Query time of the last six hours: queue, plan, compile, lock, run, in seconds
SELECT date_trunc('hour', start_time) AS hour, count(*) AS queries, round(sum(queue_time_us) / 1e6, 1) AS queue_s,
    round(sum(planning_time_us) / 1e6, 1) AS plan_s, round(sum(compile_time_us) / 1e6, 1) AS compile_s,
    round(sum(lock_wait_time_us) / 1e6, 1) AS lock_s, round(sum(execution_time_us) / 1e6, 1) AS run_s
FROM quper.query_history
WHERE cluster = 'default' AND start_time >= now() - interval '6 hours'
GROUP BY hour
ORDER BY hour DESC;

-- Errors of the newest 1000 failed queries
SELECT error_message, count(*) AS queries, count(DISTINCT user_name) AS users, max(start_time) AS last_at
FROM (
    SELECT * FROM quper.query_history
    WHERE cluster = 'default' AND status = 'failed' ORDER BY start_time DESC LIMIT 1000
) AS failed
GROUP BY error_message
ORDER BY queries DESC;

-- Users of the last six hours
SELECT user_name, count(*) AS queries, count(*) FILTER (WHERE status = 'failed') AS failed,
    round(sum(execution_time_us) / 1e6, 1) AS run_s, max(start_time) AS last_at
FROM quper.query_history
WHERE cluster = 'default' AND start_time >= now() - interval '6 hours'
GROUP BY user_name
ORDER BY run_s DESC;

-- Applications of the last six hours
SELECT application_name, count(*) AS queries, count(DISTINCT user_name) AS users,
    round(sum(execution_time_us) / 1e6, 1) AS run_s, max(start_time) AS last_at
FROM quper.query_history
WHERE cluster = 'default' AND start_time >= now() - interval '6 hours'
GROUP BY application_name
ORDER BY run_s DESC;

-- Alerts of the last day by table
SELECT table_id, table_name, event, count(*) AS alerts, count(DISTINCT query_id) AS queries, max(event_time) AS last_at,
    max(solution) AS solution
FROM quper.alert_events
WHERE cluster = 'default' AND event_time >= now() - interval '1 day'
GROUP BY table_id, table_name, event
ORDER BY alerts DESC
LIMIT 100;

-- Alerts by query
SELECT a.event_time, a.event, a.table_name, a.query_id, a.query_match, q.user_name, q.execution_time_us,
    left(q.query_text, 100) AS query_text
FROM quper.alert_events AS a
LEFT JOIN quper.query_history AS q ON q.cluster = a.cluster AND q.query_id = a.query_id
WHERE a.cluster = 'default'
ORDER BY a.event_time DESC
LIMIT 100;

-- The queries that spilled most, with blocks, rows and bytes
SELECT m.spilled_mb, m.query_id, m.start_time, m.blocks_read, m.rows_scanned, m.bytes_scanned, m.rows_returned,
    m.rows_inserted, m.largest_table_name, q.user_name, left(q.query_text, 100) AS query_text
FROM quper.query_metrics AS m
LEFT JOIN quper.query_history AS q ON q.cluster = m.cluster AND q.query_id = m.query_id
WHERE m.cluster = 'default' AND m.spilled_mb > 0
ORDER BY m.spilled_mb DESC
LIMIT 50;

-- Growth of a table over 30 days
SELECT day, size_mb, size_mb - lag(size_mb) OVER (ORDER BY day) AS growth_mb, tbl_rows, unsorted_pct, scans, is_complete
FROM quper.table_stats_by_day
WHERE day >= current_date - 30 AND (cluster, database, table_id) = (
    SELECT cluster, database, table_id FROM quper.table_stats_current
    WHERE cluster = 'default' AND schema = 'sales' AND table_name = 'orders' ORDER BY size_mb DESC LIMIT 1
)
ORDER BY day;

-- Growth of the cluster, and the day on which the disk is full at the rate of the last 30 days
SELECT node, min(day) AS since, max(capacity_mb) AS capacity_mb, max(used_mb) AS most_used_mb,
    round(regr_slope(used_mb, day - current_date)::numeric, 1) AS growth_mb_per_day,
    CASE WHEN regr_slope(used_mb, day - current_date) > 0
        THEN current_date + least(ceil((max(capacity_mb) - regr_intercept(used_mb, day - current_date))
             / regr_slope(used_mb, day - current_date)), 36500)::integer END AS full_on
FROM quper.node_details_by_day
WHERE cluster = 'default' AND day >= current_date - 30
GROUP BY node
ORDER BY full_on;

-- Databases
SELECT database, count(*) AS tables, sum(size_mb) AS size_mb, sum(tbl_rows) AS rows
FROM quper.table_stats_current
WHERE cluster = 'default'
GROUP BY database
ORDER BY size_mb DESC;

-- Last ANALYZE of tables whose statistics are out of date, with the optional job analyze_history_sync
SELECT t.database, t.schema, t.table_name, t.size_mb, t.stats_off_pct, a.analyzed_at
FROM quper.table_stats_current AS t
LEFT JOIN LATERAL (
    SELECT max(start_time) AS analyzed_at FROM quper.analyze_history AS h
    WHERE h.cluster = t.cluster AND h.table_id = t.table_id AND h.status NOT ILIKE 'skipped%'
) AS a ON true
WHERE t.cluster = 'default' AND t.stats_off_pct > 10
ORDER BY t.size_mb DESC
LIMIT 50;

-- Sort keys, distribution and encoding of large tables
SELECT t.database, t.schema, t.table_name, t.tbl_rows, t.diststyle, t.sort_key1, t.sortkey1_enc, c.encoded_pct
FROM quper.table_stats_current AS t
LEFT JOIN LATERAL (
    SELECT round(100.0 * count(*) FILTER (WHERE encoding <> 'none') / count(*)) AS encoded_pct
    FROM quper.column_stats_current AS s
    WHERE s.cluster = t.cluster AND s.table_catalog = t.database AND s.table_id = t.table_id HAVING count(*) > 0
) AS c ON true
WHERE t.cluster = 'default' AND t.tbl_rows > 5000000
ORDER BY t.size_mb DESC
LIMIT 50;

-- Skew
SELECT database, schema, table_name, diststyle, size_mb, skew_rows, skew_sortkey1
FROM quper.table_stats_current
WHERE cluster = 'default' AND skew_rows >= 4
ORDER BY skew_rows DESC
LIMIT 50;

-- Unsorted rows, and what a vacuum would gain
SELECT database, schema, table_name, size_mb, unsorted_pct, vacuum_sort_benefit_pct, last_vacuum_date, vacuum_type
FROM quper.table_stats_current
WHERE cluster = 'default' AND unsorted_pct > 10
ORDER BY size_mb * unsorted_pct DESC
LIMIT 50;

-- Tombstones: rows marked for deletion
SELECT database, schema, table_name, size_mb, tbl_rows, pct_rows_marked_for_deletion, last_vacuum_date
FROM quper.table_stats_current
WHERE cluster = 'default' AND pct_rows_marked_for_deletion > 10
ORDER BY size_mb * pct_rows_marked_for_deletion DESC
LIMIT 50;

-- Reclaimed space of the newest 100 vacuums
SELECT started_at, database_name, schema_name, table_name, vacuum_type, outcome, duration_s, rows_reclaimed, mb_reclaimed
FROM quper.vacuums
WHERE cluster = 'default'
ORDER BY started_at DESC
LIMIT 100;

-- Tables that no query scanned in 30 days
SELECT t.database, t.schema, t.table_name, t.size_mb, t.tbl_rows, t.create_time
FROM quper.table_stats_current AS t
WHERE t.cluster = 'default' AND NOT EXISTS (
    SELECT FROM quper.table_scan_stats AS s
    WHERE s.cluster = t.cluster AND s.table_id = t.table_id AND s.scan_hour >= now() - interval '30 days'
)
ORDER BY t.size_mb DESC
LIMIT 50;
