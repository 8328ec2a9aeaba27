-- Fills quper for the benchmark of pages: clusters `default` and `other`, whose rows alternate as their loads do. Each
-- has %(queries)s queries of seven days, and %(tables)s tables. Queries are in the order of their start.
TRUNCATE quper.query_history, quper.query_metrics, quper.alert_events, quper.table_stats, quper.column_stats,
    quper.table_scan_stats, quper.vacuum_history, quper.analyze_history, quper.table_stats_daily,
    quper.node_details_daily, quper.snapshot_days;

CREATE TEMPORARY TABLE clusters (cluster text, n integer);
INSERT INTO clusters VALUES ('default', 0), ('other', 1);

-- 4 %% of the queries fail, the newest twenty run.
INSERT INTO quper.query_history (
    cluster, user_id, query_id, transaction_id, session_id, database_name, query_type, status, result_cache_hit,
    start_time, end_time, elapsed_time_us, queue_time_us, execution_time_us, compile_time_us, planning_time_us,
    lock_wait_time_us, error_message, returned_rows, returned_bytes, query_text, redshift_version, compute_type,
    service_class_id, service_class_name, query_priority, user_query_hash, generic_query_hash, user_name,
    application_name
)
SELECT cluster, 100 + i %% 50, i, i, i / 20, 'dev', 'SELECT',
    CASE WHEN i > %(queries)s - 20 THEN 'running' WHEN i %% 25 = 0 THEN 'failed' ELSE 'success' END, i %% 5 = 0, t,
    CASE WHEN i <= %(queries)s - 20 THEN t + us * interval '1 microsecond' END, us * 1.2, us * 0.1, us, us * 0.05,
    us * 0.05, 0, CASE WHEN i %% 25 = 0 THEN 'ERROR: relation "t' || i %% 100 || '" does not exist' END, i %% 1000,
    i %% 1000 * 100, 'SELECT /* ' || i || ' */ ' || repeat('column_of_a_table, ', 10) || 'FROM sales.orders',
    '1.0.12345', 'primary', 100 + i %% 4, 'Default queue', 'Normal', md5(i::text), md5((i %% 500)::text),
    'user_' || i %% 50, 'application_' || i %% 20
FROM (
    SELECT cluster, i, now() - interval '7 days' * (1 - i::float / %(queries)s) AS t,
        (-1e6 * ln(1 - random()))::bigint AS us
    FROM (
        SELECT (s / 2000) * 1000 + s %% 1000 + 1 AS i, s / 1000 %% 2 AS n FROM generate_series(0, 2 * %(queries)s - 1) AS s
    ) AS numbered
    JOIN clusters USING (n)
) AS queries;

-- 2 %% of the queries spill.
INSERT INTO quper.query_metrics (
    cluster, query_id, user_id, start_time, end_time, spilled_local_mb, spilled_remote_mb, blocks_read, rows_scanned,
    bytes_scanned, rows_returned, rows_inserted, nested_loop_rows, broadcast_rows, broadcast_bytes, distributed_rows,
    distributed_bytes, max_data_skewness_pct, max_time_skewness_pct, scans, range_restricted_scans, tables_scanned,
    largest_table_id, largest_table_name
)
SELECT cluster, query_id, user_id, start_time, end_time, CASE WHEN query_id %% 50 = 0 THEN (random() * 1e5)::int ELSE 0 END,
    0, query_id %% 10000, query_id * 10, query_id * 500, returned_rows, 0, 0, query_id %% 100, query_id %% 10000, 0, 0,
    query_id %% 100, query_id %% 100, 2, 1, 1, query_id %% %(tables)s, 'table_' || query_id %% %(tables)s
FROM quper.query_history;

INSERT INTO quper.alert_events (
    cluster, userid, source_view, query, slice, segment, step, pid, xid, event, solution, event_time, slices, occurrences,
    table_id, table_name, table_origin, tables_scanned, query_id, query_match
)
SELECT cluster, user_id, 'stl_alert_event_log', query_id, 0, 1, 0, session_id, transaction_id,
    (ARRAY['Missing query planner statistics', 'Nested Loop Join in the query plan', 'Scanned a large number of rows',
        'Distributed a large number of rows'])[1 + query_id / 10 %% 4],
    'Run the ANALYZE command', start_time, 4, 4, query_id / 10 %% 2000, 'table_' || query_id / 10 %% 2000, 'step', 1,
    CASE WHEN query_id %% 200 <> 0 THEN query_id END, 'one'
FROM quper.query_history WHERE query_id %% 10 = 0;

-- One table of fifteen is large; one of four has a manual design, and one of ten statistics that are out of date. One of
-- ten changed on each of the last days.
INSERT INTO quper.table_stats (
    cluster, database, schema, table_id, table_name, encoded, diststyle, sort_key1, max_varchar, sortkey1_enc, sortkey_num,
    size_mb, pct_used, unsorted_pct, stats_off_pct, tbl_rows, skew_sortkey1, skew_rows, estimated_visible_rows,
    vacuum_sort_benefit_pct, create_time, synced_at
)
SELECT cluster, 'db_' || i %% 3, CASE i WHEN 1 THEN 'sales' ELSE 'schema_' || i %% 100 END, i,
    CASE i WHEN 1 THEN 'orders' ELSE 'table_' || i END, 'Y', CASE WHEN i %% 4 = 0 THEN 'KEY(id)' ELSE 'AUTO(ALL)' END,
    CASE WHEN i %% 4 = 0 THEN 'created_at' ELSE 'AUTO(SORTKEY)' END, 256, 'az64', 1, r * r * 100000, 0.01,
    i %% 97, greatest(i %% 100 - 80, 0), r * r * 2e7, 1, CASE WHEN i %% 20 = 0 THEN i %% 13 ELSE 1 END, r * r * 2e7 * (1 - (i %% 30) / 100.0),
    i %% 83, now() - i * interval '10 minutes', now() - (i %% 10) * interval '1 day'
FROM (SELECT cluster, i, random() ^ 10 AS r FROM clusters CROSS JOIN generate_series(1, %(tables)s) AS i) AS tables;

INSERT INTO quper.column_stats (
    cluster, table_catalog, table_schema, table_name, column_name, ordinal_position, is_nullable, data_type, table_id,
    encoding, distkey, sortkey, not_null
)
SELECT cluster, database, schema, table_name, 'column_' || i, i, 'YES', 'character varying', table_id,
    CASE WHEN i > 2 THEN 'lzo' ELSE 'none' END, i = 1, CASE WHEN i = 2 THEN 1 ELSE 0 END, false
FROM quper.table_stats CROSS JOIN generate_series(1, 10) AS i;

-- One table of ten is never scanned, the others in one hour of each day.
INSERT INTO quper.table_scan_stats (
    cluster, table_id, scan_hour, table_name, scans, queries, rows, bytes, rows_pre_filter, rows_pre_user_filter,
    range_restricted_scans, first_scan_at, last_scan_at
)
SELECT cluster, i, hour, 'table_' || i, 3, 2, 1000, 100000, 2000, 1000, 1, hour, hour
FROM (SELECT d * 24 + h AS n, date_trunc('hour', now()) - (30 * 24 - d * 24 - h) * interval '1 hour' AS hour
      FROM generate_series(0, 29) AS d, generate_series(0, 23) AS h) AS hours
CROSS JOIN clusters
JOIN generate_series(1, %(tables)s) AS i ON i %% 24 = hours.n %% 24 AND i %% 10 <> 0
ORDER BY hour, cluster;

INSERT INTO quper.vacuum_history (
    cluster, userid, xid, table_id, status, rows, sortedrows, blocks, max_merge_partitions, eventtime, database_name,
    schema_name, table_name
)
SELECT cluster, 100, i, i, status, 1000000 / n, 0, 1000 / n, 1,
    now() - (%(tables)s - i) * interval '30 days' / %(tables)s + n * interval '5 s', 'dev', 'sales', 'table_' || i
FROM generate_series(1, %(tables)s) AS i CROSS JOIN clusters AS c (cluster, number)
CROSS JOIN (VALUES (1, 'Started'), (2, 'Finished')) AS ends (n, status);

INSERT INTO quper.analyze_history (
    cluster, user_id, transaction_id, database_name, schema_name, table_name, table_id, is_automatic, status, start_time,
    end_time, rows, modified_rows, analyze_threshold_pct
)
SELECT cluster, 100, i, 'dev', 'sales', 'table_' || i, i, true, 'full', now() - i * interval '30 s', now(), 1000, 100, 10
FROM generate_series(1, %(tables)s) AS i CROSS JOIN clusters;

INSERT INTO quper.node_details_daily (cluster, node, day, used_mb, capacity_mb, removed)
SELECT cluster, node, current_date - 364 + day, 500000 + day * 500, 1000000, false
FROM clusters CROSS JOIN generate_series(0, 15) AS node CROSS JOIN generate_series(0, 364) AS day;

INSERT INTO quper.snapshot_days (cluster, table_name, day, last_read_at, is_complete)
SELECT cluster, name, current_date - 364 + day, now(), true
FROM clusters CROSS JOIN unnest(ARRAY['table_stats', 'node_details']) AS name CROSS JOIN generate_series(0, 364) AS day;
