"""quper.query_history: queries from sys_query_history, kept after Redshift deletes them."""

from datetime import timedelta

from sqlalchemy import BigInteger, Boolean, Integer, Text

from qupersync_assets.spec import (
    UTC_TIME,
    SyncSpec,
    Variant,
    column,
    generated_column,
    may_change,
    quper_table,
    status_expression,
    unfinished,
)

ENDED = ("success", "failed", "canceled")
# Of this form, so that PostgreSQL uses the partial index for `status = 'running'` and for `status NOT IN (...)`.
UNFINISHED = unfinished(ENDED)
# Few queries are longer. The index of these answers which queries ended since a time.
SHORT = timedelta(minutes=1)
LONG = f"end_time - start_time > interval '{SHORT.total_seconds():.0f} seconds'"

# Redshift spells a line break in a statement as a backslash and n, before which \r may stand.
WITH_LINE_BREAKS = "REPLACE(REPLACE(query_text, CHR(92) || 'r' || CHR(92) || 'n', CHR(10)), CHR(92) || 'n', CHR(10))"

APPLICATION_NAME = column(
    "application_name",
    Text,
    "application name of the session when the query began, as in quper.applications; NULL if it is not known",
    [f"sys_connection_log.{name}" for name in ("application_name", "event", "session_id", "record_time")],
    "application",
    merge="coalesce",
)

TABLE = quper_table(
    "query_history",
    column("user_id", Integer, "user who sent the query"),
    column("query_id", BigInteger, "query identifier of the SYS views (not that of the STL views)"),
    column("query_label", Text, "label, set by SET query_group", padded=True),
    column("transaction_id", BigInteger, "transaction"),
    column("session_id", Integer, "process id of the session"),
    column("database_name", Text, "database that the query ran in", padded=True),
    column("query_type", Text, "SELECT, INSERT, COPY, UNLOAD, DDL, UTILITY ... (an open set)", padded=True),
    column(
        "status",
        Text,
        "planning, queued, running, returning; then failed, canceled or success. stale: not ended after seven days; "
        "unknown: Redshift no longer lists the query, its end is not known",
        ("status", "start_time"),
        status_expression(ENDED),
    ),
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
        "text of the statement; Redshift may truncate it to 4000 characters",
        "query_text",
        WITH_LINE_BREAKS,
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
    # Older versions of Redshift have no username; pg_user lacks users that were dropped.
    column(
        "user_name",
        Text,
        "name of the user; NULL for a user dropped before Redshift recorded names",
        "username",
        "COALESCE(NULLIF(RTRIM(username), ''), usename::varchar(128))",
        merge="coalesce",
    ),
    APPLICATION_NAME,
    generated_column("query_hash", Text, "same as user_query_hash", "user_query_hash", of="user_query_hash"),
    key=("query_id",),
    comment="Queries of all users, without Redshift's own ones, from sys_query_history.",
    indexes=[
        ("start_time",),
        ("start_time", "query_id", f"WHERE {UNFINISHED}"),
        ("end_time", "start_time", f"WHERE {LONG}"),
    ],
    # The longest queries of one cluster are found in the index of all.
    shared_indexes=[("start_time",), ("execution_time_us",), ("status", "start_time", "WHERE status = 'failed'")],
    finds_written=True,
)

# User 1 is Redshift itself. Rows without a user or a start time are read, too.
FROM_CLAUSE = """
FROM sys_query_history
LEFT JOIN pg_user ON usesysid = user_id{names}
WHERE (start_time >= {{since}} OR start_time IS NULL OR query_id IN ({{mutable_keys}}))
  AND (user_id <> 1 OR user_id IS NULL)
  AND ({{include_own_queries}} OR query_label IS NULL OR RTRIM(query_label) <> 'qupersync')
ORDER BY start_time, query_id, elapsed_time"""

# A session may change its application name. Numbers of sessions are used again, so a name ends with its session.
NAMES = """
LEFT JOIN (
    SELECT session_id AS session, record_time AS named_from,
           CASE WHEN RTRIM(event) <> 'disconnecting session' THEN RTRIM(application_name) END AS application,
           LEAD(record_time) OVER (PARTITION BY session_id ORDER BY record_time) AS named_to
    FROM sys_connection_log
    WHERE RTRIM(application_name) <> '' AND RTRIM(event) <> 'authentication failure'
       OR RTRIM(event) = 'disconnecting session'
) names ON session = session_id AND start_time >= named_from AND (start_time < named_to OR named_to IS NULL)"""

SPEC = SyncSpec(
    sync_job_id="query_history_sync",
    table=TABLE,
    kind="history",
    time_column="start_time",
    description="Queries: user, text, durations and outcome, kept longer than Redshift's seven days.",
    sources=("sys_query_history", "sys_connection_log"),
    from_clause=FROM_CLAUSE.format(names=NAMES),
    alternatives=(
        Variant(
            sources=("sys_query_history",),
            expressions={
                c.name: c.info["source_expression"]
                for c in TABLE.c
                if "source_expression" in c.info and c is not APPLICATION_NAME
            },
            from_clause=FROM_CLAUSE.format(names=""),
        ),
    ),
    mutable_where=may_change(ENDED),
    version_column="start_time",
    times=("start_time", "start_time"),
)
