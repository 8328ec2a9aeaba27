CREATE TABLE quper.sync_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, cluster text NOT NULL, sync_job_id text NOT NULL,
    run_id text NOT NULL, status text NOT NULL, started_at timestamptz NOT NULL, completed_at timestamptz,
    duration_ms bigint GENERATED ALWAYS AS
        ((extract(epoch FROM completed_at - started_at) * 1000)::bigint) STORED,
    attempts integer NOT NULL DEFAULT 1, rows_extracted bigint NOT NULL DEFAULT '0',
    rows_upserted bigint GENERATED ALWAYS AS (rows_inserted + rows_updated + rows_unchanged) STORED,
    rows_inserted bigint NOT NULL DEFAULT '0', rows_updated bigint NOT NULL DEFAULT '0',
    rows_unchanged bigint NOT NULL DEFAULT '0', rows_duplicate bigint NOT NULL DEFAULT '0',
    rows_skipped bigint NOT NULL DEFAULT '0', batches bigint NOT NULL DEFAULT '0', error text, source text,
    columns_missing text, rows_removed bigint NOT NULL DEFAULT '0', read_from timestamptz,
    read_to timestamptz, read_why text, gap_from timestamptz, gap_to timestamptz,
    CONSTRAINT sync_logs_run_key UNIQUE (cluster, sync_job_id, run_id)
);
CREATE INDEX sync_logs_running_idx ON quper.sync_logs (run_id) WHERE status = 'running';
CREATE INDEX sync_logs_started_at_idx ON quper.sync_logs (started_at DESC);

CREATE TABLE quper.skipped_rows (
    cluster text, sync_job_id text, fingerprint text, run_id text NOT NULL, column_name text,
    reason text NOT NULL, "row" jsonb NOT NULL, first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen timestamptz NOT NULL DEFAULT now(), times_seen bigint NOT NULL,
    PRIMARY KEY (cluster, sync_job_id, fingerprint)
);
CREATE INDEX skipped_rows_last_seen_idx ON quper.skipped_rows (last_seen DESC);

CREATE TABLE quper.alert_events (
    cluster text, userid integer, query bigint, slice integer, segment integer, step integer, pid integer,
    xid bigint, event text, solution text, event_time timestamptz, slices bigint, occurrences bigint,
    event_md5 text GENERATED ALWAYS AS (md5(event)) STORED, synced_at timestamptz NOT NULL DEFAULT now(),
    source_view text, PRIMARY KEY (cluster, source_view, query, segment, step, event_md5)
);
CREATE INDEX alert_events_event_time_idx ON quper.alert_events (cluster, event_time NULLS FIRST);
CREATE INDEX alert_events_event_md5_event_time_idx
    ON quper.alert_events (cluster, event_md5, event_time NULLS FIRST);

CREATE TABLE quper.applications (
    cluster text, application_name text, user_name text, database_name text, first_seen timestamptz,
    last_seen timestamptz, sessions bigint, synced_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz, PRIMARY KEY (cluster, application_name, user_name, database_name)
);
CREATE INDEX applications_last_seen_idx ON quper.applications (cluster, last_seen NULLS FIRST);

CREATE TABLE quper.column_stats (
    cluster text, table_catalog text, table_schema text, table_name text, column_name text,
    ordinal_position integer, column_default text, is_nullable text, data_type text,
    character_maximum_length integer, numeric_precision integer, numeric_precision_radix integer,
    numeric_scale integer, datetime_precision integer, interval_type text, interval_precision text,
    character_set_catalog text, character_set_schema text, character_set_name text, collation_catalog text,
    collation_schema text, collation_name text, domain_name text, remarks text, table_id bigint,
    encoding text, distkey boolean, sortkey integer, not_null boolean,
    synced_at timestamptz NOT NULL DEFAULT now(), removed_at timestamptz,
    PRIMARY KEY (cluster, table_catalog, table_schema, table_name, column_name)
);
CREATE INDEX column_stats_table_id_idx ON quper.column_stats (cluster, table_id);

CREATE TABLE quper.node_details (
    cluster text, node integer, used_mb bigint, capacity_mb bigint,
    synced_at timestamptz NOT NULL DEFAULT now(), removed_at timestamptz, PRIMARY KEY (cluster, node)
);

CREATE TABLE quper.query_history (
    cluster text, user_id integer, query_id bigint, query_label text, transaction_id bigint,
    session_id integer, database_name text, query_type text, status text, result_cache_hit boolean,
    start_time timestamptz, end_time timestamptz, elapsed_time_us bigint, queue_time_us bigint,
    execution_time_us bigint, error_message text, returned_rows bigint, returned_bytes bigint,
    query_text text, redshift_version text, usage_limit text, compute_type text, compile_time_us bigint,
    planning_time_us bigint, lock_wait_time_us bigint, service_class_id integer, service_class_name text,
    query_priority text, short_query_accelerated text, user_query_hash text, generic_query_hash text,
    query_hash_version integer, result_cache_query_id bigint, user_name text,
    query_hash text GENERATED ALWAYS AS (user_query_hash) STORED,
    synced_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (cluster, query_id)
);
CREATE INDEX query_history_start_time_idx ON quper.query_history (cluster, start_time NULLS FIRST);
CREATE INDEX query_history_start_time_query_id_idx ON quper.query_history (cluster, start_time, query_id)
    WHERE coalesce(status, '') NOT IN ('success', 'failed', 'canceled');
CREATE INDEX query_history_execution_time_us_idx
    ON quper.query_history (cluster, execution_time_us NULLS FIRST) WHERE execution_time_us >= 1000000;

CREATE TABLE quper.table_scan_stats (
    cluster text, table_id bigint, scan_hour timestamptz, table_name text, scans bigint, queries bigint,
    rows numeric(38, 0), bytes numeric(38, 0), rows_pre_filter numeric(38, 0),
    rows_pre_user_filter numeric(38, 0), range_restricted_scans bigint, first_scan_at timestamptz,
    last_scan_at timestamptz, synced_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster, table_id, scan_hour)
);
CREATE INDEX table_scan_stats_scan_hour_idx ON quper.table_scan_stats (cluster, scan_hour NULLS FIRST);
CREATE INDEX table_scan_stats_table_name_scan_hour_idx
    ON quper.table_scan_stats (cluster, table_name, scan_hour NULLS FIRST);

CREATE TABLE quper.table_stats (
    cluster text, database text, schema text, table_id bigint, table_name text, encoded text,
    diststyle text, sort_key1 text, max_varchar integer, sortkey1_enc text, sortkey_num integer,
    size_mb bigint, pct_used numeric(10, 4), unsorted_pct numeric(5, 2), stats_off_pct numeric(5, 2),
    tbl_rows numeric(38, 0), skew_sortkey1 numeric(19, 2), skew_rows numeric(19, 2),
    estimated_visible_rows numeric(38, 0), risk_event text, vacuum_sort_benefit_pct numeric(12, 2),
    create_time timestamptz, pct_rows_marked_for_deletion numeric(5, 2) GENERATED ALWAYS AS
        (CASE WHEN tbl_rows > 0 THEN round(
            100 * least(greatest(tbl_rows - estimated_visible_rows, 0), tbl_rows) / tbl_rows, 2) END) STORED,
    last_vacuum_date timestamptz, vacuum_type text, synced_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz, PRIMARY KEY (cluster, database, table_id)
);
CREATE INDEX table_stats_schema_table_name_idx ON quper.table_stats (cluster, schema, table_name);
CREATE INDEX table_stats_table_id_idx ON quper.table_stats (cluster, table_id);
CREATE INDEX table_stats_size_mb_idx ON quper.table_stats (cluster, size_mb NULLS FIRST);

CREATE TABLE quper.vacuum_history (
    cluster text, userid integer, xid bigint, table_id bigint, status text, rows bigint, sortedrows bigint,
    blocks bigint, max_merge_partitions integer, eventtime timestamptz, reclaimable_rows bigint,
    reclaimable_space_mb bigint, cutoff_xid bigint, is_recluster integer,
    synced_at timestamptz NOT NULL DEFAULT now(),
    outcome text GENERATED ALWAYS AS (CASE WHEN status ILIKE '%skipped%' THEN 'skipped'
        WHEN status ILIKE '%finished%' THEN 'finished' WHEN status ILIKE '%failed%' THEN 'failed'
        WHEN status ILIKE '%started%' THEN 'started' END) STORED,
    vacuum_type text GENERATED ALWAYS AS (CASE WHEN status ILIKE '%finished%' THEN NULL
        WHEN status ILIKE '%delete only%' THEN 'DELETE ONLY'
        WHEN status ILIKE '%sort only%' THEN 'SORT ONLY' WHEN status ILIKE '%reindex%' THEN 'REINDEX'
        WHEN status ILIKE '%ranged partition%' THEN 'RANGED PARTITION'
        WHEN status ILIKE '%recluster%' THEN 'RECLUSTER' WHEN status ILIKE '%started%' THEN 'FULL' END
    ) STORED,
    PRIMARY KEY (cluster, xid, table_id, status, eventtime)
);
CREATE INDEX vacuum_history_eventtime_idx ON quper.vacuum_history (cluster, eventtime NULLS FIRST);
CREATE INDEX vacuum_history_table_id_eventtime_idx
    ON quper.vacuum_history (cluster, table_id, eventtime NULLS FIRST);
