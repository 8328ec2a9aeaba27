"""quper.alert_events: warnings of the planner, one row per alert of a query step, with its table and its query."""

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, Text

from qupersync_assets.spec import (
    UTC_TIME,
    ColumnType,
    Merge,
    SyncSpec,
    Variant,
    column,
    generated_column,
    quper_table,
    source_expression,
    sys_query_ids,
)

# A cluster that lacks some of these columns still has the alerts.
_SCANS = tuple(f"stl_scan.{c}" for c in ("tbl", "query", "segment", "step", "type", "starttime", "rows_pre_filter"))
_QUERIES = (
    *(f"sys_query_history.{c}" for c in ("query_id", "transaction_id", "start_time", "end_time")),
    *(f"stl_query.{c}" for c in ("query", "xid", "starttime", "endtime")),
)


def _alert(name: str, type_: ColumnType, comment: str, reads: str = "", merge: Merge = "replace") -> Column[Any]:
    return column(name, type_, comment, reads or name, f"e.{name}", merge=merge)


TABLE = quper_table(
    "alert_events",
    _alert("userid", Integer, "user who ran the query"),
    column(
        "source_view",
        Text,
        "view that logged the alert; `query` is a query identifier of this view",
        "query",
        "'stl_alert_event_log'",
    ),
    _alert("query", BigInteger, "query identifier of the STL or of the SYS views, see source_view"),
    _alert("slice", Integer, "lowest slice that reported the alert; NULL from sys_query_detail", merge="least"),
    _alert("segment", Integer, "query segment; -1 for an alert above this level"),
    _alert("step", Integer, "step within the segment; -1 for an alert above this level"),
    _alert("pid", Integer, "lowest process id that reported the alert; NULL from sys_query_detail", merge="least"),
    _alert("xid", BigInteger, "transaction; NULL from sys_query_detail"),
    _alert("event", Text, "text of the alert"),
    _alert("solution", Text, "what Redshift recommends; NULL from sys_query_detail"),
    _alert("event_time", UTC_TIME, "start of the query (UTC)", merge="least"),
    _alert(
        "slices",
        BigInteger,
        "number of slices that reported the alert; NULL from sys_query_detail",
        "slice",
        merge="greatest",
    ),
    _alert(
        "occurrences",
        BigInteger,
        "number of reports of the alert, over all slices and child queries",
        "event",
        merge="greatest",
    ),
    column(
        "table_id",
        BigInteger,
        "OID of the table, see table_origin; NULL if the query scanned no table",
        _SCANS,
        "COALESCE(s.table_id, t.table_id)",
        merge="coalesce",
    ),
    column(
        "table_name",
        Text,
        "name of that table",
        "stl_scan.perm_table_name",
        "COALESCE(s.table_name, t.table_name)",
        merge="coalesce",
    ),
    column(
        "table_origin",
        Text,
        "step: the step that raised the alert scanned the table; query: its query scanned most rows in the table",
        _SCANS,
        "CASE WHEN s.table_id IS NOT NULL THEN 'step' WHEN t.table_id IS NOT NULL THEN 'query' END",
        merge="coalesce",
    ),
    column(
        "tables_scanned",
        BigInteger,
        "number of tables that the query scanned",
        "stl_scan.tbl",
        "t.tables_scanned",
        merge="greatest",
    ),
    column(
        "query_id",
        BigInteger,
        "number of the query, as in quper.query_history; NULL if query_match is not unique",
        _QUERIES,
        "m.query_id",
        merge="coalesce",
    ),
    # In alphabetical order, so that the best match is the greatest.
    column(
        "query_match",
        Text,
        "unique: one query is that of the alert; several: more than one query of the transaction fits; none: "
        "sys_query_history has no query of the transaction at that time",
        _QUERIES,
        "COALESCE(m.query_match, 'none')",
        merge="greatest",
    ),
    # The text may have 1024 bytes, too many for an index entry.
    generated_column("event_md5", Text, "md5 of the text of the alert", "md5(event)", of="event"),
    key=("source_view", "query", "segment", "step", "event_md5"),
    comment="One row per alert of a step, with table and query; the repetitions on each slice are counted.",
    indexes=[("event_time",), ("event_md5", "event_time"), ("query_id",), ("table_id", "event_time")],
    shared_indexes=[("event_time",)],
)

# stl_query also has the end of the query, but a query that still runs has no row in it.
_STL_QUERIES = """
            SELECT a.query, COALESCE(MAX(l.xid), MIN(a.xid)) AS xid,
                   COALESCE(MAX(l.starttime), MIN(a.event_time)) AS started,
                   COALESCE(MAX(l.endtime), MIN(a.event_time)) AS ended
            FROM stl_alert_event_log a
            LEFT JOIN stl_query l ON l.query = a.query AND l.starttime >= {since} - INTERVAL '1 day'
            WHERE a.event_time >= {since}
            GROUP BY a.query"""

SPEC = SyncSpec(
    sync_job_id="alert_events_sync",
    table=TABLE,
    kind="history",
    time_column="event_time",
    late_arriving=True,
    description="Alerts of the query planner, such as missing statistics and nested loops, with table and remedy.",
    sources=("stl_alert_event_log", "stl_scan", "stl_query", "sys_query_history"),
    # User 1 is Redshift itself. Rows of slices arrive late and expire: new values are merged with known ones.
    from_clause=f"""
FROM (
    SELECT query, segment, step, RTRIM(event) AS event, MIN(userid) AS userid, MIN(slice) AS slice,
           MIN(pid) AS pid, MIN(xid) AS xid, MAX(RTRIM(solution)) AS solution, MIN(event_time) AS event_time,
           COUNT(DISTINCT slice) AS slices, COUNT(*) AS occurrences
    FROM stl_alert_event_log
    WHERE (event_time >= {{since}} OR event_time IS NULL)
      AND (userid <> 1 OR userid IS NULL)
    GROUP BY query, segment, step, RTRIM(event)
) e
LEFT JOIN (
    SELECT query, segment, step, MAX(tbl) AS table_id, MAX(RTRIM(perm_table_name)) AS table_name
    FROM stl_scan
    WHERE type = 2 AND starttime >= {{since}}
    GROUP BY query, segment, step
) s ON s.query = e.query AND s.segment = e.segment AND s.step = e.step
LEFT JOIN (
    SELECT query, tbl AS table_id, MAX(RTRIM(perm_table_name)) AS table_name,
           ROW_NUMBER() OVER (
               PARTITION BY query ORDER BY COALESCE(SUM(rows_pre_filter), 0) DESC, tbl) AS place,
           COUNT(*) OVER (PARTITION BY query) AS tables_scanned
    FROM stl_scan
    WHERE type = 2 AND starttime >= {{since}}
    GROUP BY query, tbl
) t ON t.query = e.query AND t.place = 1
LEFT JOIN ({sys_query_ids(_STL_QUERIES)}
) m ON m.query = e.query
ORDER BY e.event_time, e.query, e.segment, e.step""",
    # Its rows are totals over all slices, and have no solution. Its table names have the form database.schema.table.
    alternatives=(
        Variant(
            sources=("sys_query_detail",),
            expressions={
                "userid": source_expression("user_id", "e.user_id"),
                "source_view": source_expression("query_id", "'sys_query_detail'"),
                "query": source_expression("query_id", "e.query_id"),
                "segment": source_expression("segment_id", "e.segment_id"),
                "step": source_expression("step_id", "e.step_id"),
                "event": source_expression("alert", "e.alert"),
                "event_time": source_expression("start_time", "e.start_time"),
                "occurrences": source_expression("alert", "e.occurrences"),
                "table_id": source_expression("table_id", "COALESCE(e.table_id, t.table_id)"),
                "table_name": source_expression("table_name", "COALESCE(e.table_name, t.table_name)"),
                "table_origin": source_expression(
                    "table_id",
                    "CASE WHEN e.table_id IS NOT NULL THEN 'step' WHEN t.table_id IS NOT NULL THEN 'query' END",
                ),
                "tables_scanned": source_expression("table_id", "t.tables_scanned"),
                "query_id": source_expression("query_id", "e.query_id"),
                "query_match": source_expression("query_id", "'unique'"),
            },
            needs=("step_name", "input_rows"),
            from_clause=r"""
FROM (
    SELECT query_id, segment_id, step_id, RTRIM(alert) AS alert, MIN(user_id) AS user_id,
           MIN(start_time) AS start_time, COUNT(*) AS occurrences,
           MAX(CASE WHEN table_id > 0 THEN table_id END) AS table_id,
           MAX(CASE WHEN table_id > 0 THEN REGEXP_REPLACE(RTRIM(table_name), '^[^.]+[.][^.]+[.]', '') END) AS table_name
    FROM sys_query_detail
    WHERE RTRIM(alert) <> '' AND (start_time >= {since} OR start_time IS NULL)
      AND (user_id <> 1 OR user_id IS NULL)
    GROUP BY query_id, segment_id, step_id, RTRIM(alert)
) e
LEFT JOIN (
    SELECT query_id, table_id, MAX(REGEXP_REPLACE(RTRIM(table_name), '^[^.]+[.][^.]+[.]', '')) AS table_name,
           ROW_NUMBER() OVER (
               PARTITION BY query_id ORDER BY COALESCE(SUM(input_rows), 0) DESC, table_id) AS place,
           COUNT(*) OVER (PARTITION BY query_id) AS tables_scanned
    FROM sys_query_detail
    WHERE RTRIM(step_name) = 'scan' AND step_id >= 0 AND table_id > 0
      AND start_time >= {since} - INTERVAL '1 day'
    GROUP BY query_id, table_id
) t ON t.query_id = e.query_id AND t.place = 1
ORDER BY e.start_time, e.query_id, e.segment_id, e.step_id""",
        ),
    ),
)
