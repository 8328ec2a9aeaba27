"""quper.table_scan_stats: scans of each table, one row per table and hour."""

from typing import Any

from sqlalchemy import BigInteger, Column, Numeric, Text

from qupersync_assets.spec import UTC_TIME, SyncSpec, Variant, column, quper_table, source_expression


def _sum(name: str, comment: str) -> Column[Any]:
    return column(name, Numeric(38, 0), comment, sql=f'SUM("{name}")', merge="greatest")


# Redshift deletes the rows of its oldest hour little by little: the greatest known value is the complete one.
TABLE = quper_table(
    "table_scan_stats",
    column("table_id", BigInteger, "table OID", "tbl", "tbl"),
    column("scan_hour", UTC_TIME, "hour in which the scans started (UTC)", "starttime", "scan_hour"),
    column("table_name", Text, "name of the table", "perm_table_name", "MAX(table_name)"),
    column("scans", BigInteger, "scans: steps of queries that read the table", "query", "COUNT(*)", merge="greatest"),
    column("queries", BigInteger, "queries that read the table", "query", "COUNT(DISTINCT query)", merge="greatest"),
    _sum("rows", "rows that the scans returned"),
    _sum("bytes", "bytes that the scans returned"),
    _sum("rows_pre_filter", "rows before deleted and filtered rows are removed; NULL from sys_query_detail"),
    _sum("rows_pre_user_filter", "rows before the filters of queries are applied; NULL from sys_query_detail"),
    column(
        "range_restricted_scans",
        BigInteger,
        "scans that skipped blocks because of the sort key",
        "is_rrscan",
        "SUM(range_restricted)",
        merge="greatest",
    ),
    column("first_scan_at", UTC_TIME, "start of the first scan (UTC)", "starttime", "MIN(starttime)", merge="least"),
    column("last_scan_at", UTC_TIME, "end of the last scan (UTC)", "endtime", "MAX(endtime)", merge="greatest"),
    key=("table_id", "scan_hour"),
    comment="Scans of permanent tables by table and hour; values can be summed over hours.",
    indexes=[("scan_hour",), ("table_name", "scan_hour")],
    shared_indexes=[("scan_hour",)],
)

SPEC = SyncSpec(
    sync_job_id="scan_stats_sync",
    table=TABLE,
    kind="history",
    time_column="scan_hour",
    late_arriving=True,
    description="Scans, rows and bytes read of every table, hour by hour.",
    sources=("stl_scan",),
    needs=("segment", "step", "type", "userid"),
    # The inner query combines the slices of a scan, which may start in different hours. Type 2 is a permanent
    # table; user 1 is Redshift itself; a step that never ran has the time 2000-01-01.
    full_read_since="'2010-01-01'::timestamp",
    from_clause="""
FROM (
    SELECT query, segment, step, tbl, MAX(RTRIM(perm_table_name)) AS table_name,
           DATE_TRUNC('hour', MIN(starttime)) AS scan_hour, MIN(starttime) AS starttime,
           MAX(endtime) AS endtime,
           SUM("rows") AS "rows", SUM(bytes) AS bytes, SUM(rows_pre_filter) AS rows_pre_filter,
           SUM(rows_pre_user_filter) AS rows_pre_user_filter,
           MAX(CASE WHEN is_rrscan = 't' THEN 1 ELSE 0 END) AS range_restricted
    FROM stl_scan
    WHERE type = 2 AND (userid <> 1 OR userid IS NULL)
      AND (starttime >= DATE_TRUNC('hour', {since}) - INTERVAL '1 hour' OR starttime IS NULL)
    GROUP BY query, segment, step, tbl
) s
WHERE scan_hour >= DATE_TRUNC('hour', {since}) OR scan_hour IS NULL
GROUP BY tbl, scan_hour
ORDER BY scan_hour, tbl""",
    # Its rows are totals over all slices. Its table names have the form database.schema.table.
    alternatives=(
        Variant(
            sources=("sys_query_detail",),
            expressions={
                "table_id": source_expression("table_id"),
                "scan_hour": source_expression("start_time", "DATE_TRUNC('hour', start_time)"),
                "table_name": source_expression(
                    "table_name", r"MAX(REGEXP_REPLACE(RTRIM(table_name), '^[^.]+[.][^.]+[.]', ''))"
                ),
                "scans": source_expression("query_id", "COUNT(*)"),
                "queries": source_expression("query_id", "COUNT(DISTINCT query_id)"),
                "rows": source_expression("output_rows", "SUM(output_rows)"),
                "bytes": source_expression("output_bytes", "SUM(output_bytes)"),
                "range_restricted_scans": source_expression(
                    "is_rrscan", "SUM(CASE WHEN is_rrscan = 't' THEN 1 ELSE 0 END)"
                ),
                "first_scan_at": source_expression("start_time", "MIN(start_time)"),
                "last_scan_at": source_expression("end_time", "MAX(end_time)"),
            },
            needs=("step_id", "step_name", "user_id"),
            from_clause="""
FROM sys_query_detail
WHERE RTRIM(step_name) = 'scan' AND step_id >= 0 AND table_id > 0 AND (user_id <> 1 OR user_id IS NULL)
  AND (start_time >= DATE_TRUNC('hour', {since}) OR start_time IS NULL)
GROUP BY table_id, DATE_TRUNC('hour', start_time)
ORDER BY DATE_TRUNC('hour', start_time), table_id""",
        ),
    ),
)
