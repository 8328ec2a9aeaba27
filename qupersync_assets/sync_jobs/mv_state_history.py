"""quper.mv_state_history: events that changed how materialized views are refreshed, from sys_mv_state."""

from sqlalchemy import BigInteger, Text

from qupersync_assets.spec import UTC_TIME, SyncSpec, column, quper_table

SPEC = SyncSpec(
    sync_job_id="mv_state_history_sync",
    optional=True,
    table=quper_table(
        "mv_state_history",
        column("user_id", BigInteger, "user who caused the event"),
        column("transaction_id", BigInteger, "transaction"),
        column("database_name", Text, "database of the materialized view", padded=True),
        column("event_desc", Text, "event, such as TRUNCATE, Vacuum or Column was dropped", padded=True),
        column("start_time", UTC_TIME, "time of the event (UTC)"),
        column("base_table_database_name", Text, "database of the base table", padded=True),
        column("base_table_schema", Text, "schema of the base table", sql="COALESCE(RTRIM(base_table_schema), '')"),
        column("base_table_name", Text, "base table", sql="COALESCE(RTRIM(base_table_name), '')"),
        column("schema_name", Text, "schema of the materialized view", "mv_schema", padded=True),
        column("mv_name", Text, "materialized view", padded=True),
        column("state", Text, "Recompute: the next refresh is complete; Unrefreshable: there is none", padded=True),
        key=(
            "database_name",
            "schema_name",
            "mv_name",
            "start_time",
            "base_table_schema",
            "base_table_name",
            "event_desc",
        ),
        comment="Changes of the state of materialized views; the newest row of a view explains its current state.",
        indexes=[("start_time",)],
        shared_indexes=[("start_time",)],
    ),
    kind="history",
    time_column="start_time",
    late_arriving=True,
    description="Why materialized views are recomputed or cannot be refreshed.",
    sources=("sys_mv_state",),
    from_clause="""
FROM sys_mv_state
WHERE start_time >= {since} OR start_time IS NULL
ORDER BY start_time, mv_name, mv_schema, database_name""",
)
