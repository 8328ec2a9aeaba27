"""quper.auto_table_optimizations: changes of tables by Redshift itself, from sys_auto_table_optimization."""

from sqlalchemy import BigInteger, Integer, Text

from qupersync_assets.spec import UTC_TIME, SyncSpec, column, quper_table

SPEC = SyncSpec(
    sync_job_id="auto_table_optimizations_sync",
    optional=True,
    table=quper_table(
        "auto_table_optimizations",
        column("transaction_id", BigInteger, "transaction"),
        column("session_id", Integer, "process id of the session that altered the table"),
        column("table_id", BigInteger, "table OID"),
        column("alter_table_type", Text, "distkey, sortkey or encode", padded=True),
        column(
            "status", Text, "Start, Checkpoint, Complete, Skipped, Abort or Failed, then a colon and why", padded=True
        ),
        column("event_time", UTC_TIME, "time of this status (UTC)"),
        column("alter_from", Text, "distribution style and sort key before", padded=True),
        key=("table_id", "alter_table_type", "event_time", "status"),
        comment="Steps of automatic table optimization; the newest row of a table and type has the outcome.",
        indexes=[("event_time",)],
        shared_indexes=[("event_time",)],
    ),
    kind="history",
    time_column="event_time",
    description="Automatic changes of distribution, sort key and compression: when, and how they ended.",
    sources=("sys_auto_table_optimization",),
    from_clause="""
FROM sys_auto_table_optimization
WHERE event_time >= {since} OR event_time IS NULL
ORDER BY event_time, table_id, alter_table_type""",
)
