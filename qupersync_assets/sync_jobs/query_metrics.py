"""quper.query_metrics: what each query cost, one row per query, summed over its steps."""

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, Numeric, Text

from qupersync_assets.spec import (
    UTC_TIME,
    SyncSpec,
    Variant,
    column,
    generated_column,
    quper_table,
    source_expression,
    sys_query_ids,
)


def _sum(name: str, comment: str, reads: str | tuple[str, ...], sql: str = "") -> Column[Any]:
    return column(name, Numeric(38, 0), comment, reads, sql or f"SUM({name})", merge="greatest")


def _greatest(name: str, comment: str, reads: str) -> Column[Any]:
    return column(name, BigInteger, comment, reads, f"MAX({name})", merge="greatest")


# A query's steps appear while it runs, and expire little by little: the greatest known value is the complete one.
TABLE = quper_table(
    "query_metrics",
    column("query_id", BigInteger, "the query as quper.query_history numbers it"),
    column("user_id", Integer, "user who sent the query", sql="MIN(user_id)"),
    column("start_time", UTC_TIME, "start of the first step (UTC)", sql="MIN(start_time)", merge="least"),
    column("end_time", UTC_TIME, "end of the last step (UTC)", sql="MAX(end_time)", merge="greatest"),
    _sum("spilled_local_mb", "MB spilled to local disk", "spilled_block_local_disk"),
    _sum("spilled_remote_mb", "MB spilled to remote storage", "spilled_block_remote_disk"),
    _sum("blocks_read", "blocks of 1 MB that were read", "blocks_read"),
    _sum("rows_scanned", "rows that the scan steps read, before filters", "input_rows"),
    _sum("bytes_scanned", "bytes that the scan steps read", "input_bytes"),
    _sum("rows_returned", "rows that the return steps sent", "output_rows"),
    _sum("rows_inserted", "rows that the insert steps wrote", "output_rows"),
    _sum("nested_loop_rows", "rows that nested loop joins produced", "output_rows"),
    _sum("broadcast_rows", "rows that were sent to all nodes", "output_rows"),
    _sum("broadcast_bytes", "bytes that were sent to all nodes", "output_bytes"),
    _sum("distributed_rows", "rows that were redistributed between nodes", "output_rows"),
    _sum("distributed_bytes", "bytes that were redistributed between nodes", "output_bytes"),
    _greatest(
        "max_data_skewness_pct", "most uneven distribution of data in a step: from 0, even, to 100", "data_skewness"
    ),
    _greatest(
        "max_time_skewness_pct", "most uneven distribution of time in a step: from 0, even, to 100", "time_skewness"
    ),
    _sum("scans", "scan steps", "step_name"),
    _sum("range_restricted_scans", "scan steps that skipped blocks because of the sort key", "is_rrscan"),
    _sum(
        "unsorted_rows",
        "rows that scans read without skipping blocks, and of which they kept less than a quarter",
        ("input_rows", "output_rows", "is_rrscan"),
    ),
    _greatest("tables_scanned", "permanent tables that were scanned", "table_id"),
    column(
        "largest_table_id",
        BigInteger,
        "OID of the table of which most rows were scanned",
        "table_id",
        "MAX(CASE WHEN place = 1 THEN table_id END)",
        merge="coalesce",
    ),
    column(
        "largest_table_name",
        Text,
        "name of that table",
        "table_name",
        "MAX(CASE WHEN place = 1 AND table_id IS NOT NULL THEN table_name END)",
        merge="coalesce",
    ),
    generated_column(
        "spilled_mb",
        Numeric(38, 0),
        "MB spilled to local disk and to remote storage",
        "coalesce(spilled_local_mb, 0) + coalesce(spilled_remote_mb, 0)",
        of=("spilled_local_mb", "spilled_remote_mb"),
    ),
    key=("query_id",),
    comment="Sums over all steps of each query; query_id is that of quper.query_history.",
    # The second one is read with each evaluation of the cluster's health.
    indexes=[("start_time",), ("query_id", "WHERE spilled_mb > 0 OR rows_inserted BETWEEN 1 AND 100")],
    shared_indexes=[("start_time",), ("spilled_mb", "WHERE spilled_mb > 0")],
    finds_written=True,
)


def _of_steps(step: str, value: str) -> str:
    return f"SUM(CASE WHEN step_name = '{step}' THEN {value} ELSE 0 END)"


# The rows of steps alone: the rows of segments, streams and child queries sum them up.
_FROM_CLAUSE = f"""
FROM (
    SELECT query_id, table_id, MIN(user_id) AS user_id, MIN(start_time) AS start_time, MAX(end_time) AS end_time,
           SUM(spilled_block_local_disk) AS spilled_local_mb, SUM(spilled_block_remote_disk) AS spilled_remote_mb,
           SUM(blocks_read) AS blocks_read,
           {_of_steps("scan", "input_rows")} AS rows_scanned,
           {_of_steps("scan", "input_bytes")} AS bytes_scanned,
           {_of_steps("return", "output_rows")} AS rows_returned,
           {_of_steps("insert", "output_rows")} AS rows_inserted,
           {_of_steps("nestloop", "output_rows")} AS nested_loop_rows,
           {_of_steps("broadcast", "output_rows")} AS broadcast_rows,
           {_of_steps("broadcast", "output_bytes")} AS broadcast_bytes,
           {_of_steps("distribute", "output_rows")} AS distributed_rows,
           {_of_steps("distribute", "output_bytes")} AS distributed_bytes,
           MAX(data_skewness) AS max_data_skewness_pct, MAX(time_skewness) AS max_time_skewness_pct,
           {_of_steps("scan", "1")} AS scans,
           SUM(CASE WHEN step_name = 'scan' AND is_rrscan = 't' THEN 1 ELSE 0 END) AS range_restricted_scans,
           SUM(CASE WHEN step_name = 'scan' AND is_rrscan = 'f' AND output_rows < 0.25 * input_rows
               THEN input_rows ELSE 0 END) AS unsorted_rows,
           MAX(table_name) AS table_name,
           COUNT(table_id) OVER (PARTITION BY query_id) AS tables_scanned,
           ROW_NUMBER() OVER (
               PARTITION BY query_id
               ORDER BY CASE WHEN table_id IS NULL THEN 1 ELSE 0 END,
                        {_of_steps("scan", "COALESCE(input_rows, 0)")} DESC, table_id) AS place
    FROM (
        SELECT query_id, user_id, start_time, end_time, RTRIM(step_name) AS step_name, is_rrscan,
               CASE WHEN RTRIM(step_name) = 'scan' AND table_id > 0 THEN table_id END AS table_id,
               REGEXP_REPLACE(RTRIM(table_name), '^[^.]+[.][^.]+[.]', '') AS table_name,
               input_rows, input_bytes, output_rows, output_bytes, blocks_read, data_skewness, time_skewness,
               spilled_block_local_disk, spilled_block_remote_disk
        FROM sys_query_detail
        WHERE step_id >= 0 AND (user_id <> 1 OR user_id IS NULL) AND query_id IN (
            SELECT query_id FROM sys_query_detail WHERE start_time >= {{since}} OR start_time IS NULL)
          AND ({{include_own_queries}} OR query_id NOT IN (
            SELECT query_id FROM sys_query_history
            WHERE RTRIM(query_label) = 'qupersync' AND start_time >= {{since}} - INTERVAL '1 day'))
    ) step
    GROUP BY query_id, table_id
) d
GROUP BY query_id
ORDER BY MIN(start_time), query_id"""

_STL_QUERIES = """
            SELECT query, xid, starttime AS started, endtime AS ended FROM stl_query
            WHERE starttime >= {since} AND (userid <> 1 OR userid IS NULL)
              AND ({include_own_queries} OR RTRIM(label) <> 'qupersync')"""

# It has no steps and fewer columns, and numbers queries as the STL views do: a query without a SYS number is left out.
_METRICS_SUMMARY = Variant(
    sources=("svl_query_metrics_summary", "stl_query", "sys_query_history"),
    expressions={
        "query_id": source_expression("sys_query_history.query_id", "m.query_id"),
        "user_id": source_expression("userid", "MIN(s.userid)"),
        "start_time": source_expression("stl_query.starttime", "MIN(q.starttime)"),
        "end_time": source_expression("stl_query.endtime", "MAX(q.endtime)"),
        "spilled_local_mb": source_expression("query_temp_blocks_to_disk", "SUM(s.query_temp_blocks_to_disk)"),
        "blocks_read": source_expression("query_blocks_read", "SUM(s.query_blocks_read)"),
        "rows_scanned": source_expression("scan_row_count", "SUM(s.scan_row_count)"),
        "rows_returned": source_expression("return_row_count", "SUM(s.return_row_count)"),
        "nested_loop_rows": source_expression("nested_loop_join_row_count", "SUM(s.nested_loop_join_row_count)"),
    },
    needs=(
        *("query", "stl_query.query", "stl_query.xid", "stl_query.userid", "stl_query.label"),
        *("sys_query_history.transaction_id", "sys_query_history.start_time", "sys_query_history.end_time"),
    ),
    from_clause=f"""
FROM svl_query_metrics_summary s
JOIN stl_query q ON q.query = s.query
JOIN ({sys_query_ids(_STL_QUERIES)}
) m ON m.query = s.query AND m.query_id IS NOT NULL
GROUP BY m.query_id
ORDER BY MIN(q.starttime), m.query_id""",
)

SPEC = SyncSpec(
    sync_job_id="query_metrics_sync",
    table=TABLE,
    kind="history",
    time_column="start_time",
    late_arriving=True,
    # The first steps of a query expire first.
    times=("start_time", "end_time"),
    description="What queries cost: spill to disk, blocks and bytes read, rows, broadcasts, skew, tables.",
    sources=("sys_query_detail", "sys_query_history"),
    needs=("step_id", "sys_query_history.query_id", "sys_query_history.query_label", "sys_query_history.start_time"),
    from_clause=_FROM_CLAUSE,
    alternatives=(_METRICS_SUMMARY,),
)
