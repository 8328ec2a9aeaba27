"""quper.query_history: queries from sys_query_history, kept after Redshift deletes them."""

from sqlalchemy import BigInteger, Boolean, Integer, Text

from qupersync_assets.spec import UTC_TIME, SyncSpec, column, generated_column, quper_table

# Of this form, so that PostgreSQL uses the partial index for `status = 'running'` and for `status NOT IN (...)`.
MUTABLE_WHERE = "(status IS NULL OR status NOT IN ('success', 'failed', 'canceled'))"

SPEC = SyncSpec(
    sync_job_id="query_history_sync",
    table=quper_table(
        "query_history",
        column("user_id", Integer, "user who sent the query"),
        column("query_id", BigInteger, "query identifier of the SYS views (not that of the STL views)"),
        column("query_label", Text, "label, set by SET query_group", padded=True),
        column("transaction_id", BigInteger, "transaction"),
        column("session_id", Integer, "process id of the session"),
        column("database_name", Text, "database that the query ran in", padded=True),
        column("query_type", Text, "SELECT, INSERT, COPY, UNLOAD, DDL, UTILITY ... (an open set)", padded=True),
        column("status", Text, "planning, queued, running, returning; then failed, canceled or success", padded=True),
        column("result_cache_hit", Boolean, "whether the result was read from the result cache"),
        column("start_time", UTC_TIME, "start (UTC)"),
        column("end_time", UTC_TIME, "end (UTC); may be set while the query still runs, see status"),
        column("elapsed_time_us", BigInteger, "total time, in microseconds", "elapsed_time"),
        column("queue_time_us", BigInteger, "time in the queue, in microseconds", "queue_time"),
        column("execution_time_us", BigInteger, "execution time, in microseconds", "execution_time"),
        column("error_message", Text, "why the query failed", padded=True, sensitive="message"),
        column("returned_rows", BigInteger, "rows returned to the client"),
        column("returned_bytes", BigInteger, "bytes returned to the client"),
        column(
            "query_text",
            Text,
            "text of the statement, which Redshift may cut at 4000 characters",
            padded=True,
            sensitive="sql",
        ),
        column("redshift_version", Text, "version of Redshift", padded=True),
        column("usage_limit", Text, "usage limits that the query reached", padded=True),
        column("compute_type", Text, "primary, secondary or primary-scale; provisioned clusters only"),
        column("compile_time_us", BigInteger, "time compiling, in microseconds", "compile_time"),
        column("planning_time_us", BigInteger, "time planning, in microseconds", "planning_time"),
        column("lock_wait_time_us", BigInteger, "time waiting for table locks, in microseconds", "lock_wait_time"),
        column("service_class_id", Integer, "WLM service class; -1 on Serverless"),
        column("service_class_name", Text, "name of the WLM service class", padded=True),
        column("query_priority", Text, "priority: lowest, low, normal, high or highest", padded=True),
        column("short_query_accelerated", Text, "true or false, as text", padded=True),
        column("user_query_hash", Text, "hash of the query with its literals", padded=True),
        column("generic_query_hash", Text, "hash of the query without its literals", padded=True),
        column("query_hash_version", Integer, "version of the hashes"),
        column("result_cache_query_id", BigInteger, "query whose cached result was used; 0 if none"),
        column("user_name", Text, "name of the user; NULL on older Redshift versions", "username", padded=True),
        generated_column("query_hash", Text, "same as user_query_hash", "user_query_hash", of="user_query_hash"),
        key=("query_id",),
        comment="Queries of all users except Redshift itself, from sys_query_history; rows are kept.",
        indexes=[("start_time",), ("start_time", "query_id", f"WHERE {MUTABLE_WHERE}")],
        # The longest queries of one cluster are found in the index of all.
        shared_indexes=[("start_time",), ("execution_time_us",), ("status", "start_time", "WHERE status = 'failed'")],
    ),
    kind="history",
    time_column="start_time",
    description="Queries of the last seven days and before: user, text, durations and outcome.",
    sources=("sys_query_history",),
    # User 1 is Redshift itself. Rows without a user or a start time are read, too.
    from_clause="""
FROM sys_query_history
WHERE (start_time >= {since} OR start_time IS NULL OR query_id IN ({mutable_keys}))
  AND (user_id <> 1 OR user_id IS NULL)
  AND ({include_own_queries} OR query_label IS NULL OR RTRIM(query_label) <> 'qupersync')
ORDER BY start_time, query_id, elapsed_time""",
    mutable_where=MUTABLE_WHERE,
    version_column="start_time",
)
