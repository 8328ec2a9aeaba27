"""The expected rows of the tables of optional jobs, as SQL over the views of the sandbox: see expected_rows."""

from __future__ import annotations

_WEEK = "start_time >= getdate() - interval '7 days'"
_FLAG = "CASE rtrim({0}) WHEN '1' THEN true WHEN '0' THEN false WHEN '' THEN NULL ELSE rtrim({0})::bool END"

# By table: SQL over the source, and SQL over the target; None selects all columns that the statement delivers.
OPTIONAL_ORACLES: dict[str, tuple[str, str | None]] = {
    "table_recommendations": (
        "SELECT rtrim(database), table_id, rtrim(type), group_id, rtrim(ddl), md5(rtrim(ddl)), auto_eligible = 't' "
        "FROM svv_alter_table_recommendations",
        None,
    ),
    "auto_table_optimizations": (
        "SELECT transaction_id, session_id, table_id, rtrim(alter_table_type), rtrim(status), event_time, "
        "rtrim(alter_from) FROM sys_auto_table_optimization",
        None,
    ),
    "load_history": (
        "SELECT l.*, (SELECT sum(splits_scanned) FROM sys_load_detail d WHERE d.query_id = l.query_id) "
        f"FROM sys_load_history l WHERE {_WEEK}",
        None,
    ),
    "load_errors": (
        "SELECT user_id, 'sys_load_error_detail', query_id, query_id, transaction_id, session_id, "
        "rtrim(database_name), table_id, start_time, rtrim(file_name), md5(rtrim(file_name)), line_number, "
        "coalesce(rtrim(column_name), ''), rtrim(column_type), rtrim(column_length), position, error_code, "
        f"rtrim(error_message), NULL, NULL FROM sys_load_error_detail WHERE {_WEEK}",
        None,
    ),
    "materialized_views": (
        "SELECT rtrim(database_name), rtrim(schema_name), rtrim(user_name), rtrim(name), "
        "CASE WHEN is_stale <> 'u' THEN is_stale::bool END, state, "
        f"{_FLAG.format('autorewrite')}, {_FLAG.format('autorefresh')} FROM svv_mv_info",
        None,
    ),
    "mv_refresh_history": (
        "SELECT user_id, session_id, transaction_id, rtrim(database_name), rtrim(schema_name), mv_id, "
        "rtrim(mv_name), rtrim(refresh_type), status, start_time, end_time, duration, rtrim(consumer_account), "
        f"rtrim(consumer_region), rtrim(consumer_namespace) FROM sys_mv_refresh_history WHERE {_WEEK}",
        None,
    ),
    "mv_state_history": (
        "SELECT user_id, transaction_id, rtrim(database_name), rtrim(event_desc), start_time, "
        "rtrim(base_table_database_name), rtrim(base_table_schema), rtrim(base_table_name), rtrim(mv_schema), "
        f"rtrim(mv_name), rtrim(state) FROM sys_mv_state WHERE {_WEEK}",
        None,
    ),
    "analyze_history": (
        "SELECT user_id, transaction_id, rtrim(database_name), rtrim(schema_name), rtrim(table_name), table_id, "
        "is_automatic::bool, rtrim(status), start_time, end_time, rows, modified_rows, analyze_threshold_percent, "
        f"last_analyze_time FROM sys_analyze_history WHERE {_WEEK}",
        None,
    ),
    "wlm_queues": (
        "SELECT service_class, rtrim(name), num_query_tasks, target_num_query_tasks, query_working_mem, "
        "target_query_working_mem, max_execution_time, user_group_wild_card, query_group_wild_card, "
        "user_role_wild_card, rtrim(concurrency_scaling), rtrim(query_priority), (SELECT count(*) "
        "FROM stv_wlm_classification_config WHERE action_service_class = service_class) "
        "FROM stv_wlm_service_class_config",
        None,
    ),
    "wlm_rules": (
        "SELECT service_class, rtrim(rule_name), rtrim(action), rtrim(metric_name), rtrim(metric_operator), "
        "metric_value, rtrim(action_value) FROM stv_wlm_qmr_config",
        None,
    ),
    "node_slices": ("SELECT node, count(*) FROM stv_slices WHERE type = 'D' GROUP BY node", None),
    "serverless_usage": ("SELECT * FROM sys_serverless_usage", None),
    "locks": (
        "SELECT txn_owner, txn_db, xid, pid, txn_start, lock_mode, lockable_object_type, coalesce(relation, 0), "
        "granted FROM svv_transactions WHERE txn_owner <> 'qupersync_reader'",
        None,
    ),
}
OPTIONAL_TIMES = {
    **dict.fromkeys(
        (
            *("sys_load_history", "sys_load_detail", "sys_load_error_detail", "sys_analyze_history"),
            *("sys_mv_refresh_history", "sys_mv_state"),
        ),
        "start_time",
    ),
    "stl_load_errors": "starttime",
    "stl_analyze": "starttime",
    "sys_auto_table_optimization": "event_time",
}
