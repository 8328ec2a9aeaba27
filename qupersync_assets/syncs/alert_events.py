"""quper.alert_events: warnings of the planner, one row an alert of a query step: stl_alert_event_log."""

from sqlalchemy import BigInteger, DateTime, Integer, Text

from qupersync_assets.spec import SyncSpec, column, derived, quper_table

SPEC = SyncSpec(
    sync_job_id="alert_events_sync",
    table=quper_table(
        "alert_events",
        column("userid", Integer(), "user who ran the query", sql="MIN(userid)"),
        column("query", Integer(), "query identifier of the STL views"),
        column(
            "slice",
            Integer(),
            "the first of the slices that reported the alert",
            sql="MIN(slice)",
            merge="least",
        ),
        column("segment", Integer(), "query segment"),
        column("step", Integer(), "step within the segment"),
        column(
            "pid",
            Integer(),
            "the first of the processes that reported the alert",
            sql="MIN(pid)",
            merge="least",
        ),
        column("xid", BigInteger(), "transaction", sql="MIN(xid)"),
        column("event", Text(), "the alert", padded=True),
        column("solution", Text(), "what Redshift recommends", sql="MAX(RTRIM(solution))"),
        column(
            "event_time",
            DateTime(timezone=True),
            "start of the query (UTC)",
            sql="MIN(event_time)",
            merge="least",
        ),
        column(
            "slices",
            BigInteger(),
            "slices that reported the alert",
            reads="slice",
            sql="COUNT(DISTINCT slice)",
            merge="greatest",
        ),
        column(
            "occurrences",
            BigInteger(),
            "times the alert was reported, over all slices",
            reads="event",
            sql="COUNT(*)",
            merge="greatest",
        ),
        # Redshift allows 1024 bytes of text, more than an index entry should carry.
        derived("event_md5", Text(), "md5 of the alert's text", "md5(event)", reads="event"),
        key=("query", "segment", "step", "event_md5"),
        comment="Alerts of the planner, as stl_alert_event_log logs them, without the repetition per slice.",
        indexes=[("event_time DESC",), ("event_md5", "event_time DESC")],
    ),
    kind="history",
    description="Alerts: missing statistics, nested loops, large broadcasts and the like, with the remedy.",
    sources=("stl_alert_event_log",),
    # User 1 is Redshift itself. Slices report late and age out: values are merged with the known ones.
    tail="""
FROM stl_alert_event_log
WHERE (event_time >= GETDATE() - INTERVAL '7 days' OR event_time IS NULL)
  AND (userid <> 1 OR userid IS NULL)
GROUP BY query, segment, step, RTRIM(event)
ORDER BY MIN(event_time), query, segment, step""",
)
