"""The expected rows of each table, in SQL that is independent of the product; and the time columns of views."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from qupersync_assets.spec import SyncSpec
from qupersync_assets_tests.support.expected_optional_rows import OPTIONAL_ORACLES, OPTIONAL_TIMES
from qupersync_assets_tests.support.integration import Query


def _steps(name: str, value: str) -> str:
    return f"coalesce(sum({value}) FILTER (WHERE step_name = '{name}'), 0)"


# By table: the query over the source for the expected rows, and the query for the actual rows.
ORACLES = {
    "table_stats": (
        'SELECT "database", "schema", table_id::bigint, "table", encoded, diststyle, sortkey1, max_varchar, '
        'rtrim(sortkey1_enc), sortkey_num, "size", pct_used, unsorted, stats_off, tbl_rows, skew_sortkey1, '
        "skew_rows, estimated_visible_rows, risk_event, vacuum_sort_benefit, create_time, "
        "CASE WHEN tbl_rows > 0 THEN round(100 * (tbl_rows - estimated_visible_rows) / tbl_rows, 2) END, "
        "(SELECT max(eventtime) FROM stl_vacuum v WHERE v.table_id = t.table_id AND status LIKE '%%Finished%%') "
        "FROM svv_table_info t",
        'SELECT "database", "schema", table_id, table_name, encoded, diststyle, sort_key1, max_varchar, '
        "sortkey1_enc, sortkey_num, size_mb, pct_used, unsorted_pct, stats_off_pct, tbl_rows, skew_sortkey1, "
        "skew_rows, estimated_visible_rows, risk_event, vacuum_sort_benefit_pct, create_time, "
        "pct_rows_marked_for_deletion, last_vacuum_date FROM quper.table_stats",
    ),
    "vacuum_history": (
        "SELECT userid, xid, v.table_id, rtrim(status), rows, sortedrows, blocks, max_merge_partitions, eventtime, "
        "reclaimable_rows, reclaimable_space_mb, cutoff_xid, is_recluster, n.* FROM stl_vacuum v "
        "LEFT JOIN LATERAL (SELECT database_name, schema_name, table_name FROM sys_vacuum_history h "
        "WHERE h.transaction_id = v.xid) n ON true",
        "SELECT userid, xid, table_id, status, rows, sortedrows, blocks, max_merge_partitions, eventtime, "
        "reclaimable_rows, reclaimable_space_mb, cutoff_xid, is_recluster, database_name, schema_name, table_name "
        "FROM quper.vacuum_history",
    ),
    "query_history": (
        "SELECT user_id, query_id, rtrim(query_label), transaction_id, session_id, rtrim(database_name), "
        "rtrim(query_type), rtrim(status), result_cache_hit, start_time, end_time, elapsed_time, queue_time, "
        "execution_time, rtrim(error_message), returned_rows, returned_bytes, "
        "rtrim(replace(replace(query_text, '\\r\\n', chr(10)), '\\n', chr(10))), "
        "rtrim(redshift_version), rtrim(usage_limit), compute_type, compile_time, planning_time, lock_wait_time, "
        "service_class_id, rtrim(service_class_name), rtrim(query_priority), rtrim(short_query_accelerated), "
        "rtrim(user_query_hash), rtrim(generic_query_hash), query_hash_version, result_cache_query_id, "
        "coalesce(rtrim(username), (SELECT usename::text FROM pg_user WHERE usesysid = user_id)), "
        "rtrim(user_query_hash), (SELECT rtrim(application_name) FROM sys_connection_log c "
        "WHERE c.session_id = q.session_id AND c.record_time <= q.start_time AND application_name <> '' "
        "ORDER BY record_time DESC LIMIT 1) FROM sys_query_history q "
        "WHERE user_id <> 1 AND start_time >= getdate() - interval '7 days'",
        "SELECT user_id, query_id, query_label, transaction_id, session_id, database_name, query_type, status, "
        "result_cache_hit, start_time, end_time, elapsed_time_us, queue_time_us, execution_time_us, "
        "error_message, returned_rows, returned_bytes, query_text, redshift_version, usage_limit, compute_type, "
        "compile_time_us, planning_time_us, lock_wait_time_us, service_class_id, service_class_name, "
        "query_priority, short_query_accelerated, user_query_hash, generic_query_hash, query_hash_version, "
        "result_cache_query_id, user_name, query_hash, application_name FROM quper.query_history",
    ),
    "alert_events": (
        "SELECT a.*, coalesce(step, largest), CASE WHEN step IS NULL THEN 'query' ELSE 'step' END, tables, query_id, "
        "CASE WHEN query_id IS NULL THEN 'none' ELSE 'unique' END FROM (SELECT min(userid), query, min(slice), segment, step AS s, min(pid), min(xid) AS xid, "
        "rtrim(event), max(rtrim(solution)), min(event_time) AS t, count(DISTINCT slice), count(*) "
        "FROM stl_alert_event_log WHERE userid <> 1 AND event_time >= getdate() - interval '7 days' "
        "GROUP BY query, segment, step, rtrim(event)) a, "
        "LATERAL (SELECT (SELECT min(tbl) FROM stl_scan n WHERE n.query = a.query AND n.segment = a.segment "
        "AND n.step = a.s AND type = 2) AS step, (SELECT tbl FROM stl_scan n WHERE n.query = a.query AND type = 2 AND starttime > '2010-01-01' "
        "GROUP BY tbl ORDER BY sum(rows_pre_filter) DESC, tbl LIMIT 1) AS largest, "
        "(SELECT count(DISTINCT tbl) FROM stl_scan n WHERE n.query = a.query AND type = 2 AND starttime > '2010-01-01') AS tables, "
        "(SELECT query_id FROM sys_query_history h WHERE h.transaction_id = a.xid "
        "AND h.start_time + h.planning_time * interval '1 microsecond' = a.t) AS query_id) b",
        "SELECT userid, query, slice, segment, step, pid, xid, event, solution, event_time, slices, occurrences, "
        "table_id, table_origin, tables_scanned, query_id, query_match FROM quper.alert_events",
    ),
    "query_metrics": (
        f"SELECT query_id, min(user_id), min(start_time), max(end_time), sum(spilled_block_local_disk), "
        "sum(spilled_block_remote_disk), sum(spilled_block_local_disk + spilled_block_remote_disk), sum(blocks_read), "
        f"{_steps('scan', 'input_rows')}, {_steps('scan', 'input_bytes')}, {_steps('return', 'output_rows')}, "
        f"{_steps('insert', 'output_rows')}, {_steps('nestloop', 'output_rows')}, "
        f"{_steps('broadcast', 'output_rows')}, {_steps('broadcast', 'output_bytes')}, "
        f"{_steps('distribute', 'output_rows')}, {_steps('distribute', 'output_bytes')}, max(data_skewness), "
        f"max(time_skewness), {_steps('scan', '1')}, count(*) FILTER (WHERE is_rrscan = 't'), "
        "coalesce(sum(input_rows) FILTER (WHERE is_rrscan = 'f' AND output_rows * 4 < input_rows), 0), "
        "count(DISTINCT table_id), (SELECT table_id FROM sys_query_detail n WHERE n.query_id = d.query_id "
        "AND step_name = 'scan' ORDER BY input_rows DESC, table_id LIMIT 1) "
        "FROM sys_query_detail d WHERE metrics_level = 'Step' AND user_id <> 1 GROUP BY query_id",
        "SELECT query_id, user_id, start_time, end_time, spilled_local_mb, spilled_remote_mb, spilled_mb, blocks_read, "
        "rows_scanned, bytes_scanned, rows_returned, rows_inserted, nested_loop_rows, broadcast_rows, broadcast_bytes, "
        "distributed_rows, distributed_bytes, max_data_skewness_pct, max_time_skewness_pct, scans, "
        "range_restricted_scans, unsorted_rows, tables_scanned, largest_table_id FROM quper.query_metrics",
    ),
    "node_details": (
        "SELECT node, used, capacity FROM stv_node_storage_capacity",
        "SELECT node, used_mb, capacity_mb FROM quper.node_details",
    ),
    "column_stats": (
        "SELECT c.*, a.attrelid::bigint, format_encoding(a.attencodingtype), a.attisdistkey, a.attsortkeyord, "
        "a.attnotnull FROM svv_columns c "
        "LEFT JOIN pg_namespace n ON n.nspname = c.table_schema "
        "LEFT JOIN pg_class r ON r.relnamespace = n.oid AND r.relname = c.table_name "
        "LEFT JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = c.column_name AND a.attnum > 0 "
        "AND NOT a.attisdropped "
        "WHERE table_schema NOT IN ('pg_catalog', 'information_schema', 'pg_internal')",
        None,
    ),
    "table_scan_stats": (
        "SELECT tbl, date_trunc('hour', scan_start), count(*), count(DISTINCT query), sum(r), sum(b), sum(p), "
        "sum(u), sum(rr), min(scan_start), max(scan_end) FROM (SELECT tbl, query, segment, step, "
        "min(starttime) scan_start, max(endtime) scan_end, sum(rows) r, sum(bytes) b, sum(rows_pre_filter) p, "
        "sum(rows_pre_user_filter) u, max(CASE is_rrscan WHEN 't' THEN 1 ELSE 0 END) rr FROM stl_scan "
        "WHERE type = 2 AND userid <> 1 AND starttime > '2010-01-01' GROUP BY tbl, query, segment, step) s "
        "GROUP BY 1, 2",
        "SELECT table_id, scan_hour, scans, queries, rows, bytes, rows_pre_filter, rows_pre_user_filter, "
        "range_restricted_scans, first_scan_at, last_scan_at FROM quper.table_scan_stats",
    ),
    "applications": (
        "SELECT rtrim(application_name), rtrim(user_name), rtrim(database_name), min(record_time), "
        "max(record_time), count(DISTINCT session_id) FROM svl_user_activity WHERE rtrim(application_name) <> '' "
        "GROUP BY 1, 2, 3",
        "SELECT application_name, user_name, database_name, first_seen, last_seen, sessions FROM quper.applications",
    ),
    **OPTIONAL_ORACLES,
}


def plain(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows in a canonical order and form: times as UTC, numbers exact."""

    def value(v: Any) -> Any:
        if isinstance(v, datetime):
            return (v if v.tzinfo else v.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
        return Decimal(v) if isinstance(v, int) and not isinstance(v, bool) else v

    return sorted((tuple(value(v) for v in row) for row in rows), key=repr)


def oracle(spec: SyncSpec, source: Query, target: Query) -> tuple[list[Any], list[Any]]:
    """Return the expected and the actual rows of a table, comparable."""
    expected, actual = ORACLES[spec.table.name]
    if actual is None:
        names = ", ".join(f'"{c.name}"' for c in spec.columns)
        actual = f"SELECT {names} FROM {spec.table.fullname}"
    return plain(source(expected, ())), plain(target(actual))


# The time columns by which views are read, or by which their rows expire.
TIMES = {
    "sys_query_history": "start_time",
    "stl_alert_event_log": "event_time",
    "stl_scan": "starttime",
    "stl_vacuum": "eventtime",
    "sys_connection_log": "record_time",
    "sys_query_detail": "start_time",
    "stl_query": "starttime",
    **OPTIONAL_TIMES,
}
