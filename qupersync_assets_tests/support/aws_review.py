"""AWS's review of a cluster, stated over Redshift's views: what each of its signals counts.

The conditions are those of awslabs-redshift-mcp-server 0.1.2. Each statement returns the objects of a signal as findings
name them, and how often AWS counts each.
"""

from __future__ import annotations

_LARGE = "tbl_rows > 5000000"
_SMALL = "tbl_rows <= 5000000"


def _tables(condition: str, columns: str = "attnum > 0") -> str:
    return f"""
SELECT "database" || '.' || "schema" || '.' || "table", 1
FROM svv_table_info
JOIN (
    SELECT attrelid, COUNT(*) AS columns, SUM(CASE WHEN attencodingtype IN (0, 128) THEN 1 ELSE 0 END) AS plain
    FROM pg_attribute WHERE {columns} GROUP BY attrelid
) a ON attrelid = table_id
WHERE LEFT("schema", 3) <> 'pg_' AND "schema" <> 'information_schema' AND "database" <> 'sample_data_dev'
    AND {condition}"""


_NAMED_AS_DATE = "diststyle LIKE '%KEY%date%' OR diststyle LIKE '%KEY%dt%' OR diststyle LIKE '%KEY%timestamp%'"
# date, time and timestamp, with and without a time zone
_IS_DATE = """table_id IN (
    SELECT attrelid FROM pg_attribute WHERE attisdistkey AND atttypid IN (1082, 1083, 1266, 1114, 1184))"""
_FEW_COMPRESSED = f"""{_LARGE} AND ROUND(100.0 * (columns - plain) / columns) < 80
    AND plain > CASE WHEN RTRIM(sortkey1_enc) IN ('none', '') THEN 1 ELSE 0 END"""


def _long(condition: str) -> str:
    """Return the statement for those of the 50 longest queries whose steps meet a condition."""
    return f"""
SELECT object, 1 FROM (
    SELECT query_id, 'statement ' || RTRIM(generic_query_hash) AS object
    FROM (
        SELECT query_id, generic_query_hash, execution_time,
            ROW_NUMBER() OVER (PARTITION BY generic_query_hash ORDER BY execution_time DESC) AS place
        FROM sys_query_history
        WHERE user_id > 1 AND service_class_id >= 5 AND RTRIM(query_type) <> 'DDL' AND execution_time > 1000000
    ) runs
    WHERE place = 1 ORDER BY execution_time DESC LIMIT 50
) longest
JOIN sys_query_detail d ON d.query_id = longest.query_id
GROUP BY object HAVING {condition}"""


# What a step is for AWS: one with many rows has no other alert.
_UNSORTED = "step_name = 'scan' AND is_rrscan = 'f' AND output_rows < 0.25 * input_rows"
_LABEL = f"""CASE
    WHEN step_name = 'nestloop' AND output_rows > 5000000 THEN 'nljoin'
    WHEN {_UNSORTED} AND input_rows > 5000000 THEN 'unsorted'
    WHEN step_name = 'broadcast' AND output_rows > 5000000 THEN 'broadcast'
    WHEN step_name = 'distribute' AND output_rows > 5000000 THEN 'distribution'
    ELSE LOWER(alert) END"""


def _labelled(*words: str, label: str = _LABEL) -> str:
    return "SUM(CASE WHEN " + " OR ".join(f"{label} LIKE '%{word}%'" for word in words) + " THEN 1 ELSE 0 END) > 0"


def _alerted(*words: str) -> str:
    return _labelled(*words, label="LOWER(alert)")


def _many(step: str, rows: str = "output_rows") -> str:
    return f"SUM(CASE WHEN {step} THEN {rows} ELSE 0 END) > 5000000"


_NESTED, _SENT = _many("step_name = 'nestloop'"), (_many("step_name = 'distribute'"), _many("step_name = 'broadcast'"))

_SPILLED = "MAX(COALESCE(spilled_block_local_disk, 0)) + MAX(COALESCE(spilled_block_remote_disk, 0)) > 1000000"

_HOURS = """
SELECT object, COUNT(*) FROM (
    SELECT DATE_TRUNC('hour', start_time) AS hour,
        'queue ' || service_class_id || ' (' || RTRIM(service_class_name) || ')' AS object,
        SUM(CASE WHEN RTRIM(query_type) = 'COPY' THEN 1 ELSE 0 END) AS copies,
        SUM(CASE WHEN inserted BETWEEN 1 AND 100 THEN 1 ELSE 0 END) AS small_inserts,
        SUM(spills) AS spills,
        100.0 * SUM(queue_time / 1000000) / NULLIF(SUM(elapsed_time / 1000000), 0) AS waiting,
        SUM(CASE WHEN RTRIM(compute_type) <> 'primary' THEN execution_time / 1000000.0 ELSE 0 END) AS elsewhere
    FROM sys_query_history q
    LEFT JOIN (
        SELECT query_id, SUM(CASE WHEN step_name = 'insert' THEN output_rows ELSE 0 END) AS inserted,
            MAX(CASE WHEN spilled_block_local_disk > 0 OR spilled_block_remote_disk > 0 THEN 1 ELSE 0 END) AS spills
        FROM sys_query_detail GROUP BY query_id
    ) d ON d.query_id = q.query_id
    WHERE user_id > 1 AND service_class_id >= 5
    GROUP BY hour, object
) hours
WHERE {condition} GROUP BY object"""


def _hours(condition: str) -> str:
    return _HOURS.format(condition=condition)


def _copies(condition: str) -> str:
    return f"""
SELECT object, COUNT(*) FROM (
    SELECT DATE_TRUNC('day', end_time) AS day, RTRIM(database_name) || '.' || RTRIM(table_name) AS object,
        SPLIT_PART(data_source, '/', 3) AS bucket, file_format, COUNT(DISTINCT l.query_id) AS copies,
        AVG(source_file_count) AS files, AVG(1.0 * file_bytes_scanned / source_file_count) AS file_bytes,
        SUM(CASE WHEN splits > source_file_count THEN 1 ELSE 0 END) AS split
    FROM sys_load_history l
    JOIN (SELECT query_id, SUM(splits_scanned) AS splits FROM sys_load_detail GROUP BY query_id) d
        ON d.query_id = l.query_id
    WHERE loaded_rows > 0
    GROUP BY day, object, bucket, file_format
) loads
WHERE copies > 24 AND {condition} GROUP BY object"""


def _view(condition: str) -> str:
    name = "RTRIM(database_name) || '.' || RTRIM(schema_name) || '.' || RTRIM(name)"
    return f"SELECT {name}, 1 FROM svv_mv_info WHERE schema_name <> 'pg_automv' AND {condition}"


def _recommended(type_: str) -> str:
    return f"""
SELECT t."database" || '.' || t."schema" || '.' || t."table" AS object, COUNT(*)
FROM svv_alter_table_recommendations r
JOIN svv_table_info t ON t.table_id = r.table_id AND t."database" = r."database"
WHERE RTRIM(r.type) = '{type_}' AND auto_eligible = 'f' GROUP BY object"""


def _aborted(type_: str) -> str:
    return f"""
SELECT t."database" || '.' || t."schema" || '.' || t."table", 1
FROM (
    SELECT table_id, RTRIM(status) AS status, ROW_NUMBER() OVER (PARTITION BY table_id ORDER BY event_time DESC) AS place
    FROM sys_auto_table_optimization WHERE RTRIM(alter_table_type) = '{type_}'
) o
JOIN svv_table_info t ON t.table_id = o.table_id
WHERE place = 1 AND status <> 'Complete: 100%' AND status <> 'Abort:This table is already the recommended style.'"""


_USED = """stv_wlm_service_class_config
WHERE service_class > 4 AND service_class IN (SELECT action_service_class FROM stv_wlm_classification_config)"""
_IS_MANUAL = f"(SELECT MAX(service_class) FROM {_USED}) < 100"


def _queues(condition: str) -> str:
    """Return the statement that counts the queues of users if workload management meets a condition."""
    return f"""
SELECT 'workload management', COUNT(*) FROM {_USED} AND service_class NOT IN (5, 14, 15) AND {condition}
HAVING COUNT(*) > 0"""


def _no_rule(metric: str) -> str:
    return _queues(
        f"NOT EXISTS (SELECT 1 FROM stv_wlm_qmr_config WHERE metric_name LIKE '%{metric}%' "
        f"AND service_class IN (SELECT service_class FROM {_USED}))"
    )


def _node(condition: str) -> str:
    return f"SELECT 'node ' || node, 1 FROM stv_node_storage_capacity WHERE {condition}"


_USED_PCT = "ROUND(100.0 * used / capacity, 2)"
_LEAST = "(SELECT MIN(used) FROM stv_node_storage_capacity)"
# Minutes in which a query ran, of those since the first one, in percent.
_BUSY = """
WITH RECURSIVE minutes (at) AS (
    SELECT DATE_TRUNC('hour', MIN(start_time)) FROM sys_query_history WHERE user_id > 1
    UNION ALL
    SELECT at + INTERVAL '1 minute' FROM minutes WHERE at < DATE_TRUNC('hour', GETDATE()) - INTERVAL '1 minute'
)
SELECT 'cluster', 1 FROM minutes
LEFT JOIN sys_query_history ON user_id > 1 AND start_time < at + INTERVAL '1 minute' AND end_time >= at
HAVING COUNT(DISTINCT DATE_TRUNC('day', start_time)) >= 3
    AND 100.0 * COUNT(DISTINCT CASE WHEN query_id > 0 THEN at END) / COUNT(DISTINCT at) {limit}"""

CONDITIONS = {
    "large_table_without_sort_key": _tables(f"{_LARGE} AND sortkey1 IS NULL"),
    "large_table_with_skew": _tables(f"{_LARGE} AND skew_rows >= 4 AND diststyle NOT LIKE 'AUTO%'"),
    "large_table_unsorted": _tables(f"{_LARGE} AND vacuum_sort_benefit >= 10"),
    "interleaved_sort_key": _tables(f"{_LARGE} AND sortkey1 LIKE '%INTERLEAVED%'"),
    "small_table_not_all": _tables(f"{_SMALL} AND diststyle NOT LIKE 'AUTO%' AND diststyle NOT LIKE '%ALL%'"),
    "small_table_with_sort_key": _tables(f"{_SMALL} AND sortkey1 <> '' AND sortkey1 NOT LIKE 'AUTO(SORTKEY%'"),
    "large_table_needs_vacuum_delete": _tables(
        f"{_LARGE} AND 100.0 * (tbl_rows - estimated_visible_rows) / tbl_rows > 10"
    ),
    "statistics_out_of_date": _tables("stats_off > 10"),
    "encoded_sort_key": _tables(
        f"{_LARGE} AND sortkey1 NOT LIKE 'AUTO(SORTKEY%' AND RTRIM(sortkey1_enc) NOT IN ('none', '')"
    ),
    "low_compression": _tables(_FEW_COMPRESSED),
    "distributed_by_date": _tables(f"{_LARGE} AND diststyle NOT LIKE 'AUTO%' AND ({_NAMED_AS_DATE})"),
    "storage_above_70": _node(f"{_USED_PCT} > 70"),
    "storage_above_50": _node(f"{_USED_PCT} > 50"),
    "storage_below_40": _node(f"{_USED_PCT} < 40"),
    "nodes_differ": _node(f"used > 0 AND 100.0 * (used - {_LEAST}) / used >= 10 AND used - {_LEAST} >= 1000"),
    "many_copies": _hours("copies > 100"),
    "many_small_inserts": _hours("small_inserts > 100"),
    "queueing": _hours("waiting > 5"),
    "spilling": _hours("spills > 100"),
    "concurrency_scaling": _hours("elsewhere > 600"),
    "long_query_missing_statistics": _long(_labelled("stat")),
    "long_query_nested_loop": _long(_labelled("nl")),
    "long_query_distribution": _long(_labelled("dist", "broadcast")),
    "long_query_sort": _long(_labelled("sort")),
    "long_query_spill": _long(_SPILLED),
    "recommended_encoding": _recommended("encode"),
    "recommended_sort_key": _recommended("sortkey"),
    "recommended_distribution": _recommended("diststyle"),
    "aborted_encoding": _aborted("encode"),
    "aborted_sort_key": _aborted("sortkey"),
    "aborted_distribution": _aborted("distkey"),
    "fewer_files_than_slices": _copies("split = 0 AND files < (SELECT COUNT(*) FROM stv_slices WHERE type = 'D')"),
    "small_files": _copies("file_bytes < 10000000"),
    "view_refreshed_completely": _view("state = 0"),
    "view_not_refreshable": _view("state > 1 AND is_stale = 't' AND autorefresh = 't'"),
    "view_stale": _view("is_stale = 't' AND state IN (0, 1)"),
    "one_queue": _queues(
        f"NOT {_IS_MANUAL} AND ((SELECT COUNT(*) FROM {_USED} AND service_class BETWEEN 6 AND 13) = 1 "
        f"OR (SELECT COUNT(*) FROM {_USED} AND service_class BETWEEN 100 AND 107) = 1)"
    ),
    "manual_wlm": _queues(_IS_MANUAL),
    "no_concurrency_scaling": _queues(f"NOT EXISTS (SELECT 1 FROM {_USED} AND RTRIM(concurrency_scaling) = 'auto')"),
    "no_short_query_acceleration": _queues(f"NOT EXISTS (SELECT 1 FROM {_USED} AND service_class = 14)"),
    "one_priority": _queues(f"NOT {_IS_MANUAL} AND (SELECT COUNT(DISTINCT RTRIM(query_priority)) FROM {_USED}) = 1"),
    "no_monitoring_rules": _no_rule(""),
    "no_rule_on_execution_time": _no_rule("query_execution_time"),
    "no_rule_on_spill": _no_rule("query_temp_blocks_to_disk"),
    "idle_cluster": _BUSY.format(limit="< 75"),
    "variable_serverless_load": """
SELECT 'workgroup', 1 FROM (
    SELECT COUNT(*) AS minutes, PERCENTILE_CONT(0.05) WITHIN GROUP (ORDER BY compute_capacity) AS low,
        PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY compute_capacity) AS high
    FROM sys_serverless_usage WHERE compute_capacity > 0 AND start_time >= GETDATE() - INTERVAL '7 days'
) capacity
WHERE minutes >= 60 AND low BETWEEN 8 AND 512 AND high >= 2 * low""",
}

# Own conditions that find more than AWS's, and those that find less; docs/decisions.md says why.
WIDER = {
    "distributed_by_date": _tables(
        f"{_LARGE} AND diststyle NOT LIKE 'AUTO%' AND diststyle LIKE '%KEY%' AND ({_NAMED_AS_DATE} OR {_IS_DATE})"
    ),
    "long_query_missing_statistics": _long(_alerted("statistics")),
    "long_query_nested_loop": _long(f"{_alerted('nested loop')} OR {_NESTED}"),
    "long_query_distribution": _long(" OR ".join((_alerted("dist", "broadcast"), *_SENT))),
    "long_query_sort": _long(f"{_alerted('sort', 'selective query filter')} OR {_many(_UNSORTED, 'input_rows')}"),
    "one_priority": _queues(
        f"NOT {_IS_MANUAL} AND (SELECT COUNT(DISTINCT RTRIM(query_priority)) FROM {_USED} "
        "AND service_class NOT IN (5, 14, 15)) = 1"
    ),
}
NARROWER = {
    "low_compression": _tables(_FEW_COMPRESSED, "attnum > 0 AND NOT attisdropped"),
    "idle_cluster": _BUSY.format(limit="<= 25"),
}
