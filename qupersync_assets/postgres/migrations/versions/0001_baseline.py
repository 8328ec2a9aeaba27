"""The schema as it was made before it had versions: a table for each of the eight jobs, and two books.

Tables that are there already stay as they are, so that a database from that time only gets its version.
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import SchemaItem

revision = "0001"
down_revision = None

QUPER = MetaData(schema="quper")
UTC = DateTime(timezone=True)


def upgrade() -> None:
    """Create each of the tables that is missing."""
    QUPER.create_all(op.get_bind())


def _column(name: str, type_: Any, comment: str, **options: Any) -> Column[Any]:
    return Column(name, type_, comment=comment, **options)


def _derived(name: str, type_: Any, comment: str, sql: str) -> Column[Any]:
    return Column(name, type_, Computed(sql, persisted=True), comment=comment)


def _count(name: str, comment: str) -> Column[Any]:
    return _column(name, BigInteger, comment, nullable=False, server_default="0")


def _quper_table(name: str, comment: str, *items: SchemaItem) -> Table:
    cluster = _column("cluster", Text, "CLUSTER_NAME of the source cluster")
    written = "when this version of the row was written (UTC)"
    synced_at = _column("synced_at", UTC, written, nullable=False, server_default=func.now())
    return Table(name, QUPER, cluster, *items, synced_at, comment=comment)


Table(
    "sync_logs",
    QUPER,
    Column("id", BigInteger, Identity(always=True)),
    _column("cluster", Text, "CLUSTER_NAME of the source cluster", nullable=False),
    _column("sync_job_id", Text, "the job", nullable=False),
    _column("run_id", Text, "the Dagster run", nullable=False),
    _column("status", Text, "running, success, failed or canceled", nullable=False),
    _column("started_at", UTC, "start of the first attempt (UTC)", nullable=False),
    _column("completed_at", UTC, "end (UTC); NULL while running"),
    _derived(
        "duration_ms",
        BigInteger,
        "milliseconds from start to end",
        "(extract(epoch FROM completed_at - started_at) * 1000)::bigint",
    ),
    _column("attempts", Integer, "tries within the run", server_default="1", nullable=False),
    _count("rows_extracted", "rows read from Redshift in committed batches"),
    _derived(
        "rows_upserted",
        BigInteger,
        "rows that the target holds as read: inserted + updated + unchanged",
        "rows_inserted + rows_updated + rows_unchanged",
    ),
    _count("rows_inserted", "rows that were new"),
    _count("rows_updated", "rows that differed and were written again"),
    _count("rows_unchanged", "rows that the target held already, not written"),
    _count("rows_duplicate", "rows that gave way to a newer one with the same key in their batch"),
    _count("rows_skipped", "rows that could not be loaded; see quper.skipped_rows"),
    _count("batches", "committed batches"),
    _column("error", Text, "why the run did not succeed"),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("cluster", "sync_job_id", "run_id", name="sync_logs_run_key"),
    Index("sync_logs_running_idx", "run_id", postgresql_where=text("status = 'running'")),
    Index("sync_logs_started_at_idx", text("started_at DESC")),
    comment="One row a sync job and run. rows_extracted = rows_upserted + rows_duplicate + rows_skipped.",
)

Table(
    "skipped_rows",
    QUPER,
    _column("cluster", Text, "CLUSTER_NAME of the source cluster"),
    _column("sync_job_id", Text, "job that skipped the row"),
    _column("fingerprint", Text, "tells the row from others (SHA-256)"),
    _column("run_id", Text, "Dagster run that saw it last", nullable=False),
    _column("column_name", Text, "column at fault, where it is known"),
    _column("reason", Text, "why the row was not loaded", nullable=False),
    _column("row", JSONB, "the row as it was last read", nullable=False),
    _column("first_seen", UTC, "UTC", server_default=func.now(), nullable=False),
    _column("last_seen", UTC, "UTC", server_default=func.now(), nullable=False),
    _column("times_seen", BigInteger, "how often it was read", nullable=False),
    PrimaryKeyConstraint("cluster", "sync_job_id", "fingerprint"),
    Index("skipped_rows_last_seen_idx", text("last_seen DESC")),
    comment="Rows of Redshift that could not be loaded, and why.",
)

_quper_table(
    "alert_events",
    "Alerts of the planner, as stl_alert_event_log logs them, without the repetition per slice.",
    _column("userid", Integer, "user who ran the query"),
    _column("query", Integer, "query identifier of the STL views"),
    _column("slice", Integer, "the first of the slices that reported the alert"),
    _column("segment", Integer, "query segment"),
    _column("step", Integer, "step within the segment"),
    _column("pid", Integer, "the first of the processes that reported the alert"),
    _column("xid", BigInteger, "transaction"),
    _column("event", Text, "the alert"),
    _column("solution", Text, "what Redshift recommends"),
    _column("event_time", UTC, "start of the query (UTC)"),
    _column("slices", BigInteger, "slices that reported the alert"),
    _column("occurrences", BigInteger, "times the alert was reported, over all slices"),
    _derived("event_md5", Text, "md5 of the alert's text", "md5(event)"),
    PrimaryKeyConstraint("cluster", "query", "segment", "step", "event_md5"),
    Index(
        "alert_events_event_md5_event_time_idx", "cluster", "event_md5", text("event_time DESC NULLS LAST")
    ),
    Index("alert_events_event_time_idx", "cluster", text("event_time DESC NULLS LAST")),
)

_quper_table(
    "applications",
    "Applications that connected to Redshift, as the connection log names them.",
    _column("application_name", Text, "name that the client gave itself"),
    _column("user_name", Text, "user"),
    _column("database_name", Text, "database"),
    _column("first_seen", UTC, "earliest connection ever seen (UTC)"),
    _column("last_seen", UTC, "latest connection seen (UTC)"),
    _column("sessions", BigInteger, "sessions among the connections that Redshift still holds (seven days)"),
    PrimaryKeyConstraint("cluster", "application_name", "user_name", "database_name"),
    Index("applications_last_seen_idx", "cluster", text("last_seen DESC NULLS LAST")),
)

_quper_table(
    "column_stats",
    "Columns as svv_columns shows them, with compression and keys of pg_attribute.",
    _column("table_catalog", Text, "database"),
    _column("table_schema", Text, "schema"),
    _column("table_name", Text, "table or view"),
    _column("column_name", Text, "column"),
    _column("ordinal_position", Integer, "position of the column in its table, from 1"),
    _column("column_default", Text, "default expression"),
    _column("is_nullable", Text, "YES or NO"),
    _column("data_type", Text, "type"),
    _column("character_maximum_length", Integer, "length of a character type"),
    _column("numeric_precision", Integer, "precision of a numeric type"),
    _column("numeric_precision_radix", Integer, "radix of that precision"),
    _column("numeric_scale", Integer, "scale of a numeric type"),
    _column("datetime_precision", Integer, "precision of a date or time type"),
    _column("interval_type", Text, "fields of an interval type"),
    _column("interval_precision", Text, "precision of an interval type"),
    _column("character_set_catalog", Text, "character set: catalog"),
    _column("character_set_schema", Text, "character set: schema"),
    _column("character_set_name", Text, "character set: name"),
    _column("collation_catalog", Text, "collation: catalog"),
    _column("collation_schema", Text, "collation: schema"),
    _column("collation_name", Text, "collation: name"),
    _column("domain_name", Text, "domain"),
    _column("remarks", Text, "comment on the column"),
    _column("table_id", BigInteger, "table OID; NULL for a late-binding view"),
    _column("encoding", Text, "compression encoding"),
    _column("distkey", Boolean, "whether the column is the distribution key"),
    _column("sortkey", Integer, "position in the sort key, 0: none; of alternating sign if interleaved"),
    _column("not_null", Boolean, "whether the column is NOT NULL"),
    PrimaryKeyConstraint("cluster", "table_catalog", "table_schema", "table_name", "column_name"),
    Index("column_stats_table_id_idx", "cluster", "table_id"),
)

_quper_table(
    "node_details",
    "Space of each node, as stv_node_storage_capacity shows it.",
    _column("node", Integer, "number of the node, from 0"),
    _column("used_mb", BigInteger, "space in use, in MB; on RA3 cache and managed storage together"),
    _column("capacity_mb", BigInteger, "space in all, in MB; on RA3 the quota of the whole cluster"),
    PrimaryKeyConstraint("cluster", "node"),
)

_quper_table(
    "query_history",
    "Queries of all users but Redshift itself, as sys_query_history shows them; kept for good.",
    _column("user_id", Integer, "user who sent the query"),
    _column("query_id", BigInteger, "query identifier of the SYS views (not that of the STL views)"),
    _column("query_label", Text, "label, set by SET query_group"),
    _column("transaction_id", BigInteger, "transaction"),
    _column("session_id", Integer, "process id of the session"),
    _column("database_name", Text, "database that the query ran in"),
    _column("query_type", Text, "SELECT, INSERT, COPY, UNLOAD, DDL, UTILITY ... (an open set)"),
    _column("status", Text, "planning, queued, running, returning; then failed, canceled or success"),
    _column("result_cache_hit", Boolean, "whether the result cache answered"),
    _column("start_time", UTC, "start (UTC)"),
    _column("end_time", UTC, "end (UTC); may be filled while the query runs: trust status"),
    _column("elapsed_time_us", BigInteger, "total time, in microseconds"),
    _column("queue_time_us", BigInteger, "time in the queue, in microseconds"),
    _column("execution_time_us", BigInteger, "time executing, in microseconds"),
    _column("error_message", Text, "why the query failed"),
    _column("returned_rows", BigInteger, "rows returned to the client"),
    _column("returned_bytes", BigInteger, "bytes returned to the client"),
    _column("query_text", Text, "text of the statement, which Redshift may cut at 4000 characters"),
    _column("redshift_version", Text, "version of Redshift"),
    _column("usage_limit", Text, "usage limits that the query ran into"),
    _column("compute_type", Text, "primary, secondary or primary-scale; provisioned clusters only"),
    _column("compile_time_us", BigInteger, "time compiling, in microseconds"),
    _column("planning_time_us", BigInteger, "time planning, in microseconds"),
    _column("lock_wait_time_us", BigInteger, "time waiting for table locks, in microseconds"),
    _column("service_class_id", Integer, "WLM service class; -1 on Serverless"),
    _column("service_class_name", Text, "name of the WLM service class"),
    _column("query_priority", Text, "priority: lowest, low, normal, high or highest"),
    _column("short_query_accelerated", Text, "true or false, as text"),
    _column("user_query_hash", Text, "hash of the query with its literals"),
    _column("generic_query_hash", Text, "hash of the query without its literals"),
    _column("query_hash_version", Integer, "version of the hashes"),
    _column("result_cache_query_id", BigInteger, "query whose cached result was used; 0 if none"),
    _column("user_name", Text, "name of the user; NULL on older Redshift versions"),
    _derived(
        "query_hash", Text, "same as user_query_hash, under the name that readers know", "user_query_hash"
    ),
    PrimaryKeyConstraint("cluster", "query_id"),
    Index("query_history_execution_time_us_idx", "cluster", text("execution_time_us DESC NULLS LAST")),
    Index("query_history_query_hash_idx", "cluster", "query_hash"),
    Index("query_history_start_time_idx", "cluster", text("start_time DESC NULLS LAST")),
    Index(
        "query_history_user_name_start_time_idx", "cluster", "user_name", text("start_time DESC NULLS LAST")
    ),
)

_quper_table(
    "table_scan_stats",
    "Scans of permanent tables by table and hour, added up from stl_scan; adds up over hours.",
    _column("table_id", BigInteger, "table OID"),
    _column("scan_hour", UTC, "hour in which the scans began (UTC)"),
    _column("table_name", Text, "name of the table"),
    _column("scans", BigInteger, "scans: steps of queries that read the table"),
    _column("queries", BigInteger, "queries that read the table"),
    _column("rows", Numeric(38, 0), "rows that the scans gave on"),
    _column("bytes", Numeric(38, 0), "bytes that the scans gave on"),
    _column("rows_pre_filter", Numeric(38, 0), "rows before deleted rows and filters are taken off"),
    _column("rows_pre_user_filter", Numeric(38, 0), "rows before the filters of queries are applied"),
    _column("range_restricted_scans", BigInteger, "scans that skipped blocks thanks to the sort key"),
    _column("first_scan_at", UTC, "start of the first scan (UTC)"),
    _column("last_scan_at", UTC, "end of the last scan (UTC)"),
    PrimaryKeyConstraint("cluster", "table_id", "scan_hour"),
    Index("table_scan_stats_scan_hour_idx", "cluster", text("scan_hour DESC NULLS LAST")),
    Index(
        "table_scan_stats_table_name_scan_hour_idx",
        "cluster",
        "table_name",
        text("scan_hour DESC NULLS LAST"),
    ),
)

_quper_table(
    "table_stats",
    "Tables and materialized views that hold rows, as svv_table_info shows them.",
    _column("database", Text, "database of the table (the connected one)"),
    _column("schema", Text, "schema of the table"),
    _column("table_id", BigInteger, "table OID; a table that is made anew gets a new one"),
    _column("table_name", Text, "name of the table"),
    _column("encoded", Text, "whether columns are compressed (Y, N or an AUTO form)"),
    _column("diststyle", Text, "EVEN, KEY(column), ALL, or an AUTO form"),
    _column("sort_key1", Text, "first column of the sort key, or AUTO(SORTKEY)"),
    _column("max_varchar", Integer, "size of the widest varchar column, in bytes"),
    _column("sortkey1_enc", Text, "compression of the first sort key column"),
    _column("sortkey_num", Integer, "number of columns in the sort key"),
    _column("size_mb", BigInteger, "size in MB (blocks of 1 MB)"),
    _column("pct_used", Numeric(10, 4), "percent of the available space that the table takes"),
    _column("unsorted_pct", Numeric(5, 2), "percent of rows out of sort order; NULL without a sort key"),
    _column("stats_off_pct", Numeric(5, 2), "how stale the statistics are: 0 current, 100 stale"),
    _column("tbl_rows", Numeric(38, 0), "rows, with those marked for deletion and not yet vacuumed"),
    _column(
        "skew_sortkey1", Numeric(19, 2), "size of the largest column / size of the first sort key column"
    ),
    _column("skew_rows", Numeric(19, 2), "rows of the fullest slice / rows of the emptiest; NULL for ALL"),
    _column("estimated_visible_rows", Numeric(38, 0), "estimated rows, without those marked for deletion"),
    _column("risk_event", Text, "type|xid|time of a risky event; type 1: COPY with EXPLICIT_IDS"),
    _column("vacuum_sort_benefit_pct", Numeric(12, 2), "most gain to expect of a vacuum sort, in percent"),
    _column("create_time", UTC, "when the table was created (UTC)"),
    _derived(
        "pct_rows_marked_for_deletion",
        Numeric(5, 2),
        "percent of tbl_rows that the next vacuum can remove",
        "CASE WHEN tbl_rows > 0 THEN "
        "round(100 * least(greatest(tbl_rows - estimated_visible_rows, 0), tbl_rows) / tbl_rows, 2) END",
    ),
    _column(
        "last_vacuum_date",
        UTC,
        "when the last known vacuum of the table finished (UTC), from quper.vacuum_history",
    ),
    _column(
        "vacuum_type", Text, "kind of that vacuum: FULL, DELETE ONLY, SORT ONLY, REINDEX or RANGED PARTITION"
    ),
    PrimaryKeyConstraint("cluster", "database", "table_id"),
    Index("table_stats_schema_table_name_idx", "cluster", "schema", "table_name"),
    Index("table_stats_size_mb_idx", "cluster", text("size_mb DESC NULLS LAST")),
    Index("table_stats_table_id_idx", "cluster", "table_id"),
)

_quper_table(
    "vacuum_history",
    "Steps of vacuums, as stl_vacuum logs them; kept longer than Redshift's seven days.",
    _column("userid", Integer, "user who ran the vacuum; 1 is Redshift itself"),
    _column("xid", BigInteger, "transaction of the vacuum"),
    _column("table_id", BigInteger, "table OID"),
    _column("status", Text, "Started..., Finished or Skipped...; [VacuumBG] marks automatic ones"),
    _column("rows", BigInteger, "rows on disk, deleted ones too: before (Started) or after (Finished)"),
    _column("sortedrows", BigInteger, "sorted rows, before or after"),
    _column("blocks", BigInteger, "blocks of 1 MB, before or after"),
    _column("max_merge_partitions", Integer, "most partitions that one merge pass can take"),
    _column("eventtime", UTC, "when this status was recorded (UTC)"),
    _column("reclaimable_rows", BigInteger, "rows that the vacuum can remove (estimate)"),
    _column("reclaimable_space_mb", BigInteger, "space that the vacuum can free, in MB (estimate)"),
    _column("cutoff_xid", BigInteger, "transaction up to which deleted rows may go"),
    _column("is_recluster", Integer, "1 if the vacuum is a recluster"),
    _derived(
        "outcome",
        Text,
        "started, finished or skipped",
        "CASE WHEN status ILIKE '%skipped%' THEN 'skipped' "
        "WHEN status ILIKE '%finished%' THEN 'finished' "
        "WHEN status ILIKE '%started%' THEN 'started' END",
    ),
    _derived(
        "vacuum_type",
        Text,
        "kind of vacuum; NULL on Finished rows",
        "CASE WHEN status ILIKE '%finished%' THEN NULL "
        "WHEN status ILIKE '%delete only%' THEN 'DELETE ONLY' "
        "WHEN status ILIKE '%sort only%' THEN 'SORT ONLY' "
        "WHEN status ILIKE '%reindex%' THEN 'REINDEX' "
        "WHEN status ILIKE '%ranged partition%' THEN 'RANGED PARTITION' "
        "WHEN status ILIKE '%started%' THEN 'FULL' END",
    ),
    PrimaryKeyConstraint("cluster", "xid", "table_id", "status", "eventtime"),
    Index("vacuum_history_eventtime_idx", "cluster", text("eventtime DESC NULLS LAST")),
    Index("vacuum_history_table_id_eventtime_idx", "cluster", "table_id", text("eventtime DESC NULLS LAST")),
)
