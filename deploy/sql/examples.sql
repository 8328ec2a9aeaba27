-- One example for each table, and for each view that is not `*_current`; docs/reference/tables.md shows them.

-- quper.alert_events
SELECT event, count(*) AS alerts, count(DISTINCT table_id) AS tables, max(solution) AS solution
FROM quper.alert_events WHERE event_time >= now() - interval '7 days' GROUP BY event ORDER BY alerts DESC;

-- quper.analyze_history
SELECT schema_name, table_name, start_time, status, is_automatic, modified_rows
FROM quper.analyze_history ORDER BY start_time DESC LIMIT 20;

-- quper.applications
SELECT application_name, user_name, database_name, last_seen FROM quper.applications_current ORDER BY last_seen DESC;

-- quper.auto_table_optimizations
SELECT DISTINCT ON (cluster, table_id, alter_table_type) table_id, alter_table_type, status, event_time
FROM quper.auto_table_optimizations ORDER BY cluster, table_id, alter_table_type, event_time DESC;

-- quper.column_stats
SELECT table_schema, table_name, column_name, data_type, encoding, distkey, sortkey
FROM quper.column_stats_current WHERE sortkey <> 0 ORDER BY table_schema, table_name, abs(sortkey);

-- quper.load_errors
SELECT start_time, file_name, line_number, column_name, error_message
FROM quper.load_errors ORDER BY start_time DESC LIMIT 20;

-- quper.load_history
SELECT table_name, count(*) AS loads, sum(loaded_rows) AS rows, sum(source_file_count) AS files
FROM quper.load_history WHERE start_time >= now() - interval '1 day' GROUP BY table_name ORDER BY rows DESC NULLS LAST;

-- quper.locks
SELECT table_id, lock_mode, granted, user_name, transaction_start, session_id
FROM quper.locks_current ORDER BY transaction_start;

-- quper.materialized_views
SELECT database_name, schema_name, name, state, autorefresh FROM quper.materialized_views_current WHERE is_stale;

-- quper.mv_refresh_history
SELECT schema_name, mv_name, count(*) AS refreshes, max(duration_us) / 1e6 AS longest_s, max(start_time) AS last_at
FROM quper.mv_refresh_history GROUP BY schema_name, mv_name ORDER BY longest_s DESC NULLS LAST;

-- quper.mv_state_history
SELECT start_time, schema_name, mv_name, event_desc, state FROM quper.mv_state_history ORDER BY start_time DESC LIMIT 20;

-- quper.node_details
SELECT node, used_mb, capacity_mb, round(100.0 * used_mb / nullif(capacity_mb, 0), 1) AS used_pct
FROM quper.node_details_current ORDER BY node;

-- quper.node_details_daily
SELECT node, day, used_mb, capacity_mb FROM quper.node_details_daily ORDER BY day DESC, node LIMIT 20;

-- quper.node_details_by_day
SELECT day, sum(used_mb) AS used_mb, sum(capacity_mb) AS capacity_mb, bool_and(is_complete) AS is_complete
FROM quper.node_details_by_day WHERE day >= current_date - 30 GROUP BY day ORDER BY day;

-- quper.node_slices
SELECT node, slices FROM quper.node_slices_current ORDER BY node;

-- quper.query_history
SELECT start_time, user_name, query_type, status, execution_time_us / 1e6 AS execution_s, left(query_text, 100) AS query
FROM quper.query_history ORDER BY start_time DESC LIMIT 20;

-- quper.query_metrics
SELECT query_id, start_time, spilled_mb, blocks_read, rows_scanned, rows_returned, largest_table_name
FROM quper.query_metrics WHERE spilled_mb > 0 ORDER BY spilled_mb DESC LIMIT 20;

-- quper.table_scan_stats
SELECT table_id, max(table_name) AS table_name, sum(scans) AS scans, sum(bytes) AS bytes, max(last_scan_at) AS last_at
FROM quper.table_scan_stats WHERE scan_hour >= now() - interval '1 day' GROUP BY table_id ORDER BY scans DESC LIMIT 20;

-- quper.serverless_usage
SELECT date_trunc('day', start_time) AS day, sum(charged_rpu_seconds) / 3600.0 AS charged_rpu_hours
FROM quper.serverless_usage GROUP BY day ORDER BY day;

-- quper.table_recommendations
SELECT table_id, type, ddl FROM quper.table_recommendations_current WHERE NOT auto_eligible;

-- quper.table_stats
SELECT schema, table_name, size_mb, tbl_rows, unsorted_pct, stats_off_pct, last_vacuum_date
FROM quper.table_stats_current ORDER BY size_mb DESC LIMIT 20;

-- quper.table_stats_daily
SELECT day, schema, table_name, size_mb FROM quper.table_stats_daily WHERE removed ORDER BY day DESC LIMIT 20;

-- quper.table_stats_by_day
SELECT day, size_mb, tbl_rows, scans FROM quper.table_stats_by_day
WHERE table_id = (SELECT table_id FROM quper.table_stats_current ORDER BY size_mb DESC LIMIT 1) ORDER BY day;

-- quper.vacuum_history
SELECT eventtime, table_id, status, rows, blocks FROM quper.vacuum_history ORDER BY eventtime DESC LIMIT 20;

-- quper.vacuums
SELECT started_at, table_name, vacuum_type, outcome, duration_s, mb_reclaimed
FROM quper.vacuums ORDER BY started_at DESC LIMIT 20;

-- quper.wlm_queues
SELECT service_class, name, query_priority, concurrency_scaling FROM quper.wlm_queues_current WHERE service_class > 5;

-- quper.wlm_rules
SELECT service_class, rule_name, action, metric_name, metric_operator, metric_value FROM quper.wlm_rules_current;

-- quper.sync_logs
SELECT sync_job_id, status, started_at, duration_ms, rows_upserted, error
FROM quper.sync_logs ORDER BY started_at DESC LIMIT 20;

-- quper.skipped_rows
SELECT sync_job_id, column_name, reason, times_seen FROM quper.skipped_rows ORDER BY last_seen DESC LIMIT 20;

-- quper.snapshot_days
SELECT table_name, count(*) AS days_read, min(day) AS first, max(day) AS last
FROM quper.snapshot_days WHERE day >= current_date - 30 GROUP BY table_name;

-- quper.health_findings
SELECT signal_id, object, value_first, value_now, first_seen, resolved_at
FROM quper.health_findings ORDER BY changed_at DESC LIMIT 20;

-- quper.health_signals
SELECT group_id, signal_id, threshold, unit, status, reason FROM quper.health_signals ORDER BY position;

-- quper.health_evaluations
SELECT cluster, evaluated_at, duration_ms FROM quper.health_evaluations;

-- quper.health_open
SELECT severity, title, object, value, unit, since, remedy
FROM quper.health_open ORDER BY severity_rank, priority DESC LIMIT 20;

-- quper.health_history
SELECT title, object, first_seen, since, resolved_at, episodes
FROM quper.health_history ORDER BY since DESC LIMIT 20;

-- quper.health_summary
SELECT group_id, critical, warning, info, evaluated, signals FROM quper.health_summary ORDER BY position;

-- quper.health_query_hours
SELECT hour, sum(queries) AS queries, sum(queue_us) / 1e6 AS queue_s, sum(execution_us) / 1e6 AS run_s
FROM quper.health_query_hours WHERE hour >= now() - interval '1 day' GROUP BY hour ORDER BY hour;

-- quper.health_pattern_days
SELECT pattern, sum(queries) AS queries, sum(execution_us) / 1e6 AS run_s, max(longest_query_id) AS query_id
FROM quper.health_pattern_days WHERE day >= current_date - 7 GROUP BY pattern ORDER BY run_s DESC LIMIT 20;

-- quper.cluster_connections
SELECT cluster, state, since, next_check_at, error FROM quper.cluster_connections ORDER BY state;

-- quper.health_cost
SELECT kind, name, execution_s, share_pct, cost FROM quper.health_cost WHERE kind = 'user' ORDER BY share_pct DESC;

-- quper.health_statements
SELECT pattern, queries, execution_s, mean_s, mean_before_s FROM quper.health_statements
ORDER BY execution_s DESC LIMIT 20;

-- quper.sync_totals
SELECT sync_job_id, status, sum(runs) AS runs, sum(rows_upserted) AS rows_upserted FROM quper.sync_totals
GROUP BY sync_job_id, status ORDER BY sync_job_id, status;
