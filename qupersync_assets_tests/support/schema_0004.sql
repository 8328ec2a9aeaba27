-- The schema at version 0004, as pg_dump writes it, with the comments of one table: what version 0005 upgrades.
CREATE SCHEMA quper;
CREATE TABLE quper.alert_events (
    cluster text NOT NULL, userid integer, query bigint NOT NULL, slice integer, segment integer NOT NULL,
    step integer NOT NULL, pid integer, xid bigint, event text, solution text,
    event_time timestamp with time zone, slices bigint, occurrences bigint,
    event_md5 text GENERATED ALWAYS AS (md5(event)) STORED NOT NULL,
    synced_at timestamp with time zone DEFAULT now() NOT NULL, source_view text NOT NULL
);
CREATE TABLE quper.applications (
    cluster text NOT NULL, application_name text NOT NULL, user_name text NOT NULL, database_name text NOT NULL,
    first_seen timestamp with time zone, last_seen timestamp with time zone, sessions bigint,
    synced_at timestamp with time zone DEFAULT now() NOT NULL, removed_at timestamp with time zone
);
CREATE VIEW quper.applications_current AS SELECT
    cluster, application_name, user_name, database_name, first_seen, last_seen, sessions, synced_at, removed_at
FROM quper.applications WHERE (removed_at IS NULL);
CREATE TABLE quper.column_stats (
    cluster text NOT NULL, table_catalog text NOT NULL, table_schema text NOT NULL, table_name text NOT NULL,
    column_name text NOT NULL, ordinal_position integer, column_default text, is_nullable text, data_type text,
    character_maximum_length integer, numeric_precision integer, numeric_precision_radix integer,
    numeric_scale integer, datetime_precision integer, interval_type text, interval_precision text,
    character_set_catalog text, character_set_schema text, character_set_name text, collation_catalog text,
    collation_schema text, collation_name text, domain_name text, remarks text, table_id bigint, encoding text,
    distkey boolean, sortkey integer, not_null boolean, synced_at timestamp with time zone DEFAULT now() NOT NULL,
    removed_at timestamp with time zone
);
CREATE VIEW quper.column_stats_current AS SELECT
    cluster, table_catalog, table_schema, table_name, column_name, ordinal_position, column_default, is_nullable,
    data_type, character_maximum_length, numeric_precision, numeric_precision_radix, numeric_scale,
    datetime_precision, interval_type, interval_precision, character_set_catalog, character_set_schema,
    character_set_name, collation_catalog, collation_schema, collation_name, domain_name, remarks, table_id,
    encoding, distkey, sortkey, not_null, synced_at, removed_at
FROM quper.column_stats WHERE (removed_at IS NULL);
CREATE TABLE quper.node_details (
    cluster text NOT NULL, node integer NOT NULL, used_mb bigint, capacity_mb bigint,
    synced_at timestamp with time zone DEFAULT now() NOT NULL, removed_at timestamp with time zone
);
COMMENT ON TABLE quper.node_details IS 'Space of each node, as stv_node_storage_capacity shows it.';
COMMENT ON COLUMN quper.node_details.cluster IS 'CLUSTER_NAME of the source cluster';
COMMENT ON COLUMN quper.node_details.node IS 'number of the node, from 0';
COMMENT ON COLUMN quper.node_details.used_mb IS 'space in use, in MB; on RA3 cache and managed storage together';
COMMENT ON COLUMN quper.node_details.capacity_mb IS 'space in all, in MB; on RA3 the quota of the whole cluster';
COMMENT ON COLUMN quper.node_details.synced_at IS 'when this version of the row was written (UTC)';
COMMENT ON COLUMN quper.node_details.removed_at IS 'when a complete read first lacked this row (UTC); NULL while it is in the source';
CREATE VIEW quper.node_details_current AS SELECT
    cluster, node, used_mb, capacity_mb, synced_at, removed_at
FROM quper.node_details WHERE (removed_at IS NULL);
CREATE TABLE quper.query_history (
    cluster text NOT NULL, user_id integer, query_id bigint NOT NULL, query_label text, transaction_id bigint,
    session_id integer, database_name text, query_type text, status text, result_cache_hit boolean,
    start_time timestamp with time zone, end_time timestamp with time zone, elapsed_time_us bigint,
    queue_time_us bigint, execution_time_us bigint, error_message text, returned_rows bigint,
    returned_bytes bigint, query_text text, redshift_version text, usage_limit text, compute_type text,
    compile_time_us bigint, planning_time_us bigint, lock_wait_time_us bigint, service_class_id integer,
    service_class_name text, query_priority text, short_query_accelerated text, user_query_hash text,
    generic_query_hash text, query_hash_version integer, result_cache_query_id bigint, user_name text,
    query_hash text GENERATED ALWAYS AS (user_query_hash) STORED,
    synced_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE quper.schema_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE quper.skipped_rows (
    cluster text NOT NULL, sync_job_id text NOT NULL, fingerprint text NOT NULL, run_id text NOT NULL,
    column_name text, reason text NOT NULL, "row" jsonb NOT NULL,
    first_seen timestamp with time zone DEFAULT now() NOT NULL,
    last_seen timestamp with time zone DEFAULT now() NOT NULL, times_seen bigint NOT NULL
);
CREATE TABLE quper.sync_logs (
    id bigint NOT NULL, cluster text NOT NULL, sync_job_id text NOT NULL, run_id text NOT NULL,
    status text NOT NULL, started_at timestamp with time zone NOT NULL, completed_at timestamp with time zone,
    duration_ms bigint GENERATED ALWAYS AS (((EXTRACT(epoch FROM (completed_at - started_at)) * (1000)::numeric))::bigint) STORED,
    attempts integer DEFAULT 1 NOT NULL, rows_extracted bigint DEFAULT '0'::bigint NOT NULL,
    rows_upserted bigint GENERATED ALWAYS AS (((rows_inserted + rows_updated) + rows_unchanged)) STORED,
    rows_inserted bigint DEFAULT '0'::bigint NOT NULL, rows_updated bigint DEFAULT '0'::bigint NOT NULL,
    rows_unchanged bigint DEFAULT '0'::bigint NOT NULL, rows_duplicate bigint DEFAULT '0'::bigint NOT NULL,
    rows_skipped bigint DEFAULT '0'::bigint NOT NULL, batches bigint DEFAULT '0'::bigint NOT NULL, error text,
    source text, columns_missing text, rows_removed bigint DEFAULT '0'::bigint NOT NULL,
    read_from timestamp with time zone, read_to timestamp with time zone, read_why text,
    gap_from timestamp with time zone, gap_to timestamp with time zone
);
ALTER TABLE quper.sync_logs ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY ( SEQUENCE NAME quper.sync_logs_id_seq START WITH 1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1 );
CREATE TABLE quper.table_scan_stats (
    cluster text NOT NULL, table_id bigint NOT NULL, scan_hour timestamp with time zone NOT NULL, table_name text,
    scans bigint, queries bigint, rows numeric(38,0), bytes numeric(38,0), rows_pre_filter numeric(38,0),
    rows_pre_user_filter numeric(38,0), range_restricted_scans bigint, first_scan_at timestamp with time zone,
    last_scan_at timestamp with time zone, synced_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE quper.table_stats (
    cluster text NOT NULL, database text NOT NULL, schema text, table_id bigint NOT NULL, table_name text,
    encoded text, diststyle text, sort_key1 text, max_varchar integer, sortkey1_enc text, sortkey_num integer,
    size_mb bigint, pct_used numeric(10,4), unsorted_pct numeric(5,2), stats_off_pct numeric(5,2),
    tbl_rows numeric(38,0), skew_sortkey1 numeric(19,2), skew_rows numeric(19,2),
    estimated_visible_rows numeric(38,0), risk_event text, vacuum_sort_benefit_pct numeric(12,2),
    create_time timestamp with time zone,
    pct_rows_marked_for_deletion numeric(5,2) GENERATED ALWAYS AS ( CASE WHEN (tbl_rows > (0)::numeric) THEN round((((100)::numeric * LEAST(GREATEST((tbl_rows - estimated_visible_rows), (0)::numeric), tbl_rows)) / tbl_rows), 2) ELSE NULL::numeric END) STORED,
    last_vacuum_date timestamp with time zone, vacuum_type text,
    synced_at timestamp with time zone DEFAULT now() NOT NULL, removed_at timestamp with time zone
);
CREATE VIEW quper.table_stats_current AS SELECT
    cluster, database, schema, table_id, table_name, encoded, diststyle, sort_key1, max_varchar, sortkey1_enc,
    sortkey_num, size_mb, pct_used, unsorted_pct, stats_off_pct, tbl_rows, skew_sortkey1, skew_rows,
    estimated_visible_rows, risk_event, vacuum_sort_benefit_pct, create_time, pct_rows_marked_for_deletion,
    last_vacuum_date, vacuum_type, synced_at, removed_at
FROM quper.table_stats WHERE (removed_at IS NULL);
CREATE TABLE quper.vacuum_history (
    cluster text NOT NULL, userid integer, xid bigint NOT NULL, table_id bigint NOT NULL, status text NOT NULL,
    rows bigint, sortedrows bigint, blocks bigint, max_merge_partitions integer,
    eventtime timestamp with time zone NOT NULL, reclaimable_rows bigint, reclaimable_space_mb bigint,
    cutoff_xid bigint, is_recluster integer, synced_at timestamp with time zone DEFAULT now() NOT NULL,
    outcome text GENERATED ALWAYS AS ( CASE WHEN (status ~~* '%skipped%'::text) THEN 'skipped'::text WHEN (status ~~* '%finished%'::text) THEN 'finished'::text WHEN (status ~~* '%failed%'::text) THEN 'failed'::text WHEN (status ~~* '%started%'::text) THEN 'started'::text ELSE NULL::text END) STORED,
    vacuum_type text GENERATED ALWAYS AS ( CASE WHEN (status ~~* '%finished%'::text) THEN NULL::text WHEN (status ~~* '%delete only%'::text) THEN 'DELETE ONLY'::text WHEN (status ~~* '%sort only%'::text) THEN 'SORT ONLY'::text WHEN (status ~~* '%reindex%'::text) THEN 'REINDEX'::text WHEN (status ~~* '%ranged partition%'::text) THEN 'RANGED PARTITION'::text WHEN (status ~~* '%recluster%'::text) THEN 'RECLUSTER'::text WHEN (status ~~* '%started%'::text) THEN 'FULL'::text ELSE NULL::text END) STORED
);
ALTER TABLE ONLY quper.alert_events ADD CONSTRAINT alert_events_pkey PRIMARY KEY (cluster, source_view, query, segment, step, event_md5);
ALTER TABLE ONLY quper.applications ADD CONSTRAINT applications_pkey PRIMARY KEY (cluster, application_name, user_name, database_name);
ALTER TABLE ONLY quper.column_stats ADD CONSTRAINT column_stats_pkey PRIMARY KEY (cluster, table_catalog, table_schema, table_name, column_name);
ALTER TABLE ONLY quper.node_details ADD CONSTRAINT node_details_pkey PRIMARY KEY (cluster, node);
ALTER TABLE ONLY quper.query_history ADD CONSTRAINT query_history_pkey PRIMARY KEY (cluster, query_id);
ALTER TABLE ONLY quper.schema_version ADD CONSTRAINT schema_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY quper.skipped_rows ADD CONSTRAINT skipped_rows_pkey PRIMARY KEY (cluster, sync_job_id, fingerprint);
ALTER TABLE ONLY quper.sync_logs ADD CONSTRAINT sync_logs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY quper.sync_logs ADD CONSTRAINT sync_logs_run_key UNIQUE (cluster, sync_job_id, run_id);
ALTER TABLE ONLY quper.table_scan_stats ADD CONSTRAINT table_scan_stats_pkey PRIMARY KEY (cluster, table_id, scan_hour);
ALTER TABLE ONLY quper.table_stats ADD CONSTRAINT table_stats_pkey PRIMARY KEY (cluster, database, table_id);
ALTER TABLE ONLY quper.vacuum_history ADD CONSTRAINT vacuum_history_pkey PRIMARY KEY (cluster, xid, table_id, status, eventtime);
CREATE INDEX alert_events_event_md5_event_time_idx ON quper.alert_events USING btree (cluster, event_md5, event_time NULLS FIRST);
CREATE INDEX alert_events_event_time_idx ON quper.alert_events USING btree (cluster, event_time NULLS FIRST);
CREATE INDEX applications_last_seen_idx ON quper.applications USING btree (cluster, last_seen NULLS FIRST);
CREATE INDEX column_stats_table_id_idx ON quper.column_stats USING btree (cluster, table_id);
CREATE INDEX query_history_execution_time_us_idx ON quper.query_history USING btree (cluster, execution_time_us NULLS FIRST) WHERE (execution_time_us >= 1000000);
CREATE INDEX query_history_start_time_idx ON quper.query_history USING btree (cluster, start_time NULLS FIRST);
CREATE INDEX query_history_start_time_query_id_idx ON quper.query_history USING btree (cluster, start_time, query_id) WHERE (COALESCE(status, ''::text) <> ALL (ARRAY['success'::text, 'failed'::text, 'canceled'::text]));
CREATE INDEX skipped_rows_last_seen_idx ON quper.skipped_rows USING btree (last_seen DESC);
CREATE INDEX sync_logs_running_idx ON quper.sync_logs USING btree (run_id) WHERE (status = 'running'::text);
CREATE INDEX sync_logs_started_at_idx ON quper.sync_logs USING btree (started_at DESC);
CREATE INDEX table_scan_stats_scan_hour_idx ON quper.table_scan_stats USING btree (cluster, scan_hour NULLS FIRST);
CREATE INDEX table_scan_stats_table_name_scan_hour_idx ON quper.table_scan_stats USING btree (cluster, table_name, scan_hour NULLS FIRST);
CREATE INDEX table_stats_schema_table_name_idx ON quper.table_stats USING btree (cluster, schema, table_name);
CREATE INDEX table_stats_size_mb_idx ON quper.table_stats USING btree (cluster, size_mb NULLS FIRST);
CREATE INDEX table_stats_table_id_idx ON quper.table_stats USING btree (cluster, table_id);
CREATE INDEX vacuum_history_eventtime_idx ON quper.vacuum_history USING btree (cluster, eventtime NULLS FIRST);
CREATE INDEX vacuum_history_table_id_eventtime_idx ON quper.vacuum_history USING btree (cluster, table_id, eventtime NULLS FIRST);
INSERT INTO quper.schema_version VALUES ('0004');
