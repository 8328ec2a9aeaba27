"""quper.alert_events: warnings of the planner, one row per alert of a query step."""

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, Text

from qupersync_assets.spec import UTC_TIME, SyncSpec, Variant, column, generated_column, quper_table, source_expression


def _lowest(name: str, comment: str) -> Column[Any]:
    return column(name, Integer, comment, sql=f"MIN({name})", merge="least")


def _count(name: str, comment: str, counted: str, reads: str) -> Column[Any]:
    return column(name, BigInteger, comment, reads=reads, sql=f"COUNT({counted})", merge="greatest")


TABLE = quper_table(
    "alert_events",
    column("userid", Integer, "user who ran the query", sql="MIN(userid)"),
    column(
        "source_view",
        Text,
        "view that logged the alert; `query` is a query identifier of this view",
        "query",
        "'stl_alert_event_log'",
    ),
    column("query", BigInteger, "query identifier of the STL or of the SYS views, see source_view"),
    _lowest("slice", "lowest slice that reported the alert; NULL from sys_query_detail"),
    column("segment", Integer, "query segment; -1 for an alert above this level"),
    column("step", Integer, "step within the segment; -1 for an alert above this level"),
    _lowest("pid", "lowest process id that reported the alert; NULL from sys_query_detail"),
    column("xid", BigInteger, "transaction; NULL from sys_query_detail", sql="MIN(xid)"),
    column("event", Text, "text of the alert", padded=True),
    column("solution", Text, "what Redshift recommends; NULL from sys_query_detail", sql="MAX(RTRIM(solution))"),
    column("event_time", UTC_TIME, "start of the query (UTC)", sql="MIN(event_time)", merge="least"),
    _count("slices", "number of slices that reported the alert; NULL from sys_query_detail", "DISTINCT slice", "slice"),
    _count("occurrences", "number of reports of the alert, over all slices and child queries", "*", "event"),
    # The text may have 1024 bytes, too many for an index entry.
    generated_column("event_md5", Text, "md5 of the text of the alert", "md5(event)", of="event"),
    key=("source_view", "query", "segment", "step", "event_md5"),
    comment="Alerts of the planner, without their repetition per slice.",
    indexes=[("event_time",), ("event_md5", "event_time")],
    shared_indexes=[("event_time",)],
)

SPEC = SyncSpec(
    sync_job_id="alert_events_sync",
    table=TABLE,
    kind="history",
    time_column="event_time",
    late_arriving=True,
    description="Alerts: missing statistics, nested loops, large broadcasts and the like, with the remedy.",
    sources=("stl_alert_event_log",),
    # User 1 is Redshift itself. Rows of slices arrive late and expire: new values are merged with known ones.
    from_clause="""
FROM stl_alert_event_log
WHERE (event_time >= {since} OR event_time IS NULL)
  AND (userid <> 1 OR userid IS NULL)
GROUP BY query, segment, step, RTRIM(event)
ORDER BY MIN(event_time), query, segment, step""",
    # Its rows are totals over all slices, and have no solution.
    alternatives=(
        Variant(
            sources=("sys_query_detail",),
            expressions={
                "userid": source_expression("user_id", "MIN(user_id)"),
                "source_view": source_expression("query_id", "'sys_query_detail'"),
                "query": source_expression("query_id"),
                "segment": source_expression("segment_id"),
                "step": source_expression("step_id"),
                "event": source_expression("alert", padded=True),
                "event_time": source_expression("start_time", "MIN(start_time)"),
                "occurrences": source_expression("alert", "COUNT(*)"),
            },
            from_clause="""
FROM sys_query_detail
WHERE RTRIM(alert) <> '' AND (start_time >= {since} OR start_time IS NULL)
  AND (user_id <> 1 OR user_id IS NULL)
GROUP BY query_id, segment_id, step_id, RTRIM(alert)
ORDER BY MIN(start_time), query_id, segment_id, step_id""",
        ),
    ),
)
