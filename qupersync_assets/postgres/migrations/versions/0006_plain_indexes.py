"""Replace indexes that `ORDER BY x DESC` cannot use, and add those of queries over all clusters."""

from alembic import op

revision = "0006"
down_revision = "0005"

_ENDED = "('success', 'failed', 'canceled')"
_REPLACED = {
    "alert_events_event_time_idx": "alert_events (cluster, event_time)",
    "alert_events_event_md5_event_time_idx": "alert_events (cluster, event_md5, event_time)",
    "applications_last_seen_idx": "applications (cluster, last_seen)",
    "query_history_start_time_idx": "query_history (cluster, start_time)",
    "query_history_start_time_query_id_idx": "query_history (cluster, start_time, query_id) "
    f"WHERE (status IS NULL OR status NOT IN {_ENDED})",
    "table_scan_stats_scan_hour_idx": "table_scan_stats (cluster, scan_hour)",
    "table_scan_stats_table_name_scan_hour_idx": "table_scan_stats (cluster, table_name, scan_hour)",
    "table_stats_size_mb_idx": "table_stats (cluster, size_mb)",
    "vacuum_history_eventtime_idx": "vacuum_history (cluster, eventtime)",
    "vacuum_history_table_id_eventtime_idx": "vacuum_history (cluster, table_id, eventtime)",
}
_ADDED = {
    "alert_events_all_event_time_idx": "alert_events (event_time)",
    "query_history_all_start_time_idx": "query_history (start_time)",
    "query_history_all_execution_time_us_idx": "query_history (execution_time_us)",
    "query_history_all_status_start_time_idx": "query_history (status, start_time) WHERE status = 'failed'",
    "table_scan_stats_all_scan_hour_idx": "table_scan_stats (scan_hour)",
    "vacuum_history_all_eventtime_idx": "vacuum_history (eventtime)",
}


def upgrade() -> None:
    # Readers wait only for the statements after these.
    for name, on in {**{f"{name}_new": on for name, on in _REPLACED.items()}, **_ADDED}.items():
        op.execute(f"CREATE INDEX {name} ON quper.{on}")
    op.execute("DROP INDEX quper.query_history_execution_time_us_idx")
    for name in _REPLACED:
        op.execute(f"DROP INDEX quper.{name}")
        op.execute(f"ALTER INDEX quper.{name}_new RENAME TO {name}")
