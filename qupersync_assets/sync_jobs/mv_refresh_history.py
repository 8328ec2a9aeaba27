"""quper.mv_refresh_history: refreshes of materialized views, from sys_mv_refresh_history."""

from sqlalchemy import BigInteger, Integer, Text

from qupersync_assets.spec import UTC_TIME, SyncSpec, column, quper_table

SPEC = SyncSpec(
    sync_job_id="mv_refresh_history_sync",
    optional=True,
    table=quper_table(
        "mv_refresh_history",
        column("user_id", Integer, "user who refreshed; 1 is Redshift itself"),
        column("session_id", Integer, "process id of the session"),
        column("transaction_id", BigInteger, "transaction"),
        column("database_name", Text, "database", padded=True),
        column("schema_name", Text, "schema", padded=True),
        column("mv_id", BigInteger, "OID of the materialized view"),
        column("mv_name", Text, "materialized view", padded=True),
        column("refresh_type", Text, "Manual or Auto", padded=True),
        column("status", Text, "text of the outcome: updated incrementally, recomputed, already updated, failed ..."),
        column("start_time", UTC_TIME, "start (UTC)"),
        column("end_time", UTC_TIME, "end (UTC)"),
        column("duration_us", BigInteger, "duration, in microseconds", "duration"),
        column("consumer_account", Text, "AWS account of the datashare consumer that refreshed", padded=True),
        column("consumer_region", Text, "region of that consumer", padded=True),
        column("consumer_namespace", Text, "namespace of that consumer", padded=True),
        key=("database_name", "schema_name", "mv_name", "start_time"),
        comment="One row per refresh of a materialized view; kept longer than in Redshift.",
        indexes=[("start_time",)],
        shared_indexes=[("start_time",)],
    ),
    kind="history",
    time_column="start_time",
    late_arriving=True,
    description="Refreshes of materialized views: who started them, how long they took, and how they ended.",
    sources=("sys_mv_refresh_history",),
    from_clause="""
FROM sys_mv_refresh_history
WHERE start_time >= {since} OR start_time IS NULL
ORDER BY start_time, mv_name, schema_name, database_name""",
)
