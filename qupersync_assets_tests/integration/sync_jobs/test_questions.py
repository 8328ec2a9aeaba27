"""Signals of a cluster's health from the tables of optional jobs: one SELECT each, as from Redshift's views."""

from __future__ import annotations

from typing import Any

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.expected_rows import plain
from qupersync_assets_tests.support.integration import Query, Sync

HARMLESS = "('Complete: 100%', 'Abort:This table is already the recommended style.')"
# By signal: SQL over the source, and SQL over the target.
SIGNALS = {
    "a recommendation that Redshift does not apply by itself": (
        "SELECT table_id, rtrim(type), rtrim(ddl) FROM svv_alter_table_recommendations WHERE auto_eligible = 'f'",
        "SELECT table_id, type, ddl FROM quper.table_recommendations_current WHERE NOT auto_eligible",
    ),
    "an automatic optimization that was aborted": (
        "SELECT table_id, rtrim(alter_table_type) FROM sys_auto_table_optimization o WHERE rtrim(status) NOT IN "
        f"{HARMLESS} AND event_time = (SELECT max(event_time) FROM sys_auto_table_optimization n "
        "WHERE n.table_id = o.table_id AND n.alter_table_type = o.alter_table_type)",
        "SELECT table_id, alter_table_type FROM (SELECT DISTINCT ON (table_id, alter_table_type) * "
        "FROM quper.auto_table_optimizations ORDER BY table_id, alter_table_type, event_time DESC) newest "
        f"WHERE status NOT IN {HARMLESS}",
    ),
    "loads of fewer files than slices, or of small files": (
        "SELECT table_name, avg(source_file_count) < (SELECT count(*) FROM stv_slices WHERE type = 'D'), "
        "sum(file_bytes_scanned) / sum(source_file_count) < 10000000, "
        "bool_or(source_file_count < (SELECT sum(splits_scanned) FROM sys_load_detail d WHERE d.query_id = l.query_id)) "
        "FROM sys_load_history l WHERE loaded_rows > 0 GROUP BY 1",
        "SELECT table_name, avg(source_file_count) < (SELECT sum(slices) FROM quper.node_slices_current), "
        "sum(file_bytes_scanned) / sum(source_file_count) < 10000000, bool_or(source_file_count < splits_scanned) "
        "FROM quper.load_history WHERE loaded_rows > 0 GROUP BY 1",
    ),
    "a stale materialized view with its last refresh": (
        "SELECT rtrim(name), state, autorefresh IN ('t', '1'), (SELECT max(start_time) FROM sys_mv_refresh_history r "
        "WHERE r.schema_name = v.schema_name AND r.mv_name = v.name) FROM svv_mv_info v WHERE is_stale = 't'",
        "SELECT name, state, autorefresh, r.start_time FROM quper.materialized_views_current v LEFT JOIN LATERAL "
        "(SELECT start_time FROM quper.mv_refresh_history r WHERE r.cluster = v.cluster "
        "AND r.database_name = v.database_name AND r.schema_name = v.schema_name AND r.mv_name = v.name "
        "ORDER BY start_time DESC LIMIT 1) r ON true WHERE is_stale",
    ),
    "queues in use: automatic, concurrency scaling, priority, monitoring rules": (
        "SELECT service_class, num_query_tasks = -1, rtrim(concurrency_scaling), rtrim(query_priority), "
        "(SELECT count(DISTINCT rule_name) FROM stv_wlm_qmr_config r WHERE r.service_class = q.service_class) "
        "FROM stv_wlm_service_class_config q WHERE service_class > 5 "
        "AND service_class IN (SELECT action_service_class FROM stv_wlm_classification_config)",
        "SELECT service_class, num_query_tasks = -1, concurrency_scaling, query_priority, "
        "(SELECT count(DISTINCT rule_name) FROM quper.wlm_rules_current r WHERE r.service_class = q.service_class) "
        "FROM quper.wlm_queues_current q WHERE service_class > 5 AND conditions > 0",
    ),
    "the load of a Serverless workgroup varies": (
        "SELECT percentile_cont(ARRAY[0.05, 0.95]) WITHIN GROUP (ORDER BY compute_capacity) FROM sys_serverless_usage "
        "WHERE compute_capacity > 0",
        "SELECT percentile_cont(ARRAY[0.05, 0.95]) WITHIN GROUP (ORDER BY compute_capacity_rpu) "
        "FROM quper.serverless_usage WHERE compute_capacity_rpu > 0",
    ),
    "the last ANALYZE of each table": (
        "SELECT table_id, max(end_time) FROM sys_analyze_history WHERE rtrim(status) <> 'Skipped' GROUP BY 1",
        "SELECT table_id, max(end_time) FROM quper.analyze_history WHERE status <> 'Skipped' GROUP BY 1",
    ),
    "who waits for whom": (
        "SELECT w.pid, h.pid, w.relation FROM svv_transactions w JOIN svv_transactions h USING (relation) "
        "WHERE NOT w.granted AND h.granted AND w.pid <> h.pid",
        "SELECT w.session_id, h.session_id, table_id FROM quper.locks_current w JOIN quper.locks_current h "
        "USING (cluster, table_id) WHERE NOT w.granted AND h.granted AND w.session_id <> h.session_id",
    ),
}


def test_each_signal_is_one_select(
    filled: Sandbox, sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_JOBS", ",".join(spec.sync_job_id for spec in all_specs() if spec.optional))
    assert sync().success
    upstream: tuple[Any, ...] = filled.server.host, filled.server.port
    with Gateway(upstream, mode="serverless") as gateway:
        monkeypatch.setenv("REDSHIFT_PORT", str(gateway.port))
        assert sync("serverless_usage").success
    for signal, (expected, actual) in SIGNALS.items():
        rows = target(actual)
        assert plain(rows) == plain(source(expected)) and rows, signal
