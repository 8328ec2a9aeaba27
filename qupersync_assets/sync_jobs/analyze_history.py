"""quper.analyze_history: ANALYZE of tables, from sys_analyze_history or stl_analyze."""

from sqlalchemy import BigInteger, Boolean, Double, Integer, Text

from qupersync_assets.spec import UTC_TIME, SyncSpec, Variant, column, quper_table, source_expression

SPEC = SyncSpec(
    sync_job_id="analyze_history_sync",
    optional=True,
    table=quper_table(
        "analyze_history",
        column("user_id", Integer, "user who ran the ANALYZE; 1 is Redshift itself"),
        column("transaction_id", BigInteger, "transaction"),
        column("database_name", Text, "database", padded=True),
        column("schema_name", Text, "schema", padded=True),
        column("table_name", Text, "table; Redshift may truncate its name", padded=True),
        column("table_id", BigInteger, "table OID"),
        column(
            "is_automatic",
            Boolean,
            "whether Redshift ran it by itself, also as part of a COPY",
            "is_automatic",
            "is_automatic = 't'",
        ),
        column("status", Text, "Full, PredicateColumn or Skipped", padded=True),
        column("start_time", UTC_TIME, "start (UTC)"),
        column("end_time", UTC_TIME, "end (UTC)"),
        column("rows", Double, "rows of the table"),
        column("modified_rows", Double, "rows that changed since the previous ANALYZE"),
        column(
            "analyze_threshold_pct",
            Integer,
            "percent of changed rows below which the table is skipped",
            "analyze_threshold_percent",
        ),
        column(
            "previous_analyze_at", UTC_TIME, "time of the previous ANALYZE (UTC); 2000-01-01: none", "last_analyze_time"
        ),
        key=("transaction_id", "table_id", "start_time"),
        comment="Runs of ANALYZE by users and by Redshift; kept longer than in Redshift.",
        indexes=[("start_time",), ("table_id", "start_time")],
        shared_indexes=[("start_time",)],
    ),
    kind="history",
    time_column="start_time",
    late_arriving=True,
    description="Runs of ANALYZE: when the statistics of each table were updated, or were still current.",
    sources=("sys_analyze_history",),
    from_clause="""
FROM sys_analyze_history
WHERE start_time >= {since} OR start_time IS NULL
ORDER BY start_time, transaction_id, table_id""",
    alternatives=(
        Variant(
            sources=("stl_analyze",),
            expressions={
                "user_id": source_expression("userid"),
                "transaction_id": source_expression("xid"),
                "database_name": source_expression("database", padded=True),
                "schema_name": source_expression("schema_name", padded=True),
                "table_name": source_expression("table_name", padded=True),
                "table_id": source_expression("table_id"),
                "is_automatic": source_expression(("is_auto", "is_background"), "is_auto = 't' OR is_background = 't'"),
                "status": source_expression("status", padded=True),
                "start_time": source_expression("starttime"),
                "end_time": source_expression("endtime"),
                "rows": source_expression("rows"),
                "modified_rows": source_expression("modified_rows"),
                "analyze_threshold_pct": source_expression("threshold_percent"),
                "previous_analyze_at": source_expression("prevtime"),
            },
            from_clause="""
FROM stl_analyze
WHERE starttime >= {since} OR starttime IS NULL
ORDER BY starttime, xid, table_id""",
        ),
    ),
)
