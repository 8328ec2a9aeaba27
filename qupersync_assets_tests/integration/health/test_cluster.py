"""Signals about nodes, loads, views, queues and recommendations."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from qupersync_assets_tests.support.health import Clusters

FULL = {"capacity_mb": 100_000}


def _days(number: float) -> timedelta:
    return timedelta(days=number)


def nodes(clusters: Clusters, *used: int, cluster: str = "sick") -> None:
    for node, used_mb in enumerate(used):
        clusters.insert("node_details", {"node": node, "used_mb": used_mb, **FULL}, cluster=cluster)


@pytest.mark.parametrize(
    ("used", "found"),
    [
        ([50_000], []),
        ([70_000], ["storage_above_50"]),
        ([70_010], ["storage_above_50", "storage_above_70"]),
        ([90_010], ["storage_above_50", "storage_above_70", "storage_nearly_full"]),
        ([39_990], ["storage_below_40"]),
    ],
)
def test_used_storage(clusters: Clusters, used: list[int], found: list[str]) -> None:
    nodes(clusters, *used)
    nodes(clusters, 45_000, cluster="well")
    assert clusters.finds("nodes") == [(signal, "node 0", used[0] / 1000) for signal in found]


def test_nodes_that_differ(clusters: Clusters) -> None:
    nodes(clusters, 45_000, 50_000)
    nodes(clusters, 45_000, 49_900, cluster="well")
    assert clusters.finds("nodes") == [("nodes_differ", "node 1", 10)]


def test_recommendations_and_aborted_optimizations(clusters: Clusters) -> None:
    name = clusters.table(1)
    clusters.table(1, "well")
    same = {"database": "dev", "table_id": 1}
    for cluster, automatic in (("sick", False), ("well", True)):
        for type_, ddl in (("encode", "ALTER 1;"), ("encode", "ALTER 2;"), ("sortkey", "ALTER 3;")):
            row = {"type": type_, "ddl": ddl, "ddl_md5": ddl, "auto_eligible": automatic}
            clusters.insert("table_recommendations", same | row, cluster=cluster)
        for hours, status in ((3, "Failed"), (2, "Complete: 100%" if automatic else "Abort: too large")):
            step = {"table_id": 1, "alter_table_type": "distkey", "status": status}
            clusters.insert(
                "auto_table_optimizations",
                step | {"event_time": clusters.now - timedelta(hours=hours)},
                cluster=cluster,
            )
    assert clusters.finds("recommendations") == [
        ("aborted_distribution", name, 2),
        ("recommended_encoding", name, 2),
        ("recommended_sort_key", name, 1),
    ]
    remedies = clusters.target("SELECT remedy FROM quper.health_open WHERE signal_id = 'recommended_encoding'")
    assert remedies == [("ALTER 1; ALTER 2;",)]


def copies(clusters: Clusters, count: int, cluster: str = "sick", **values: Any) -> None:
    end = clusters.now - timedelta(hours=3)
    row: dict[str, Any] = {
        "database_name": "dev",
        "table_name": "orders",
        "data_source": "s3://bucket/orders/",
        "file_format": "csv",
    }
    row |= {"start_time": end, "end_time": end, "loaded_rows": 1, "source_file_count": 8, "splits_scanned": 8}
    row |= {"file_bytes_scanned": 800_000_000} | values
    [(first,)] = clusters.target("SELECT coalesce(max(query_id), 0) + 1 FROM quper.load_history")
    for number in range(count):
        clusters.insert("load_history", row | {"query_id": first + number}, cluster=cluster)


@pytest.mark.parametrize(
    ("signal", "values", "value"),
    [
        ("fewer_files_than_slices", {"source_file_count": 7, "splits_scanned": 7}, 7),
        ("small_files", {"file_bytes_scanned": 72_000_000}, 9),
    ],
)
def test_loads_of_few_or_small_files(clusters: Clusters, signal: str, values: dict[str, Any], value: float) -> None:
    copies(clusters, 25, **values)
    for cluster in ("sick", "well"):
        clusters.insert("node_slices", {"node": 0, "slices": 4}, {"node": 1, "slices": 4}, cluster=cluster)
        copies(clusters, 24, cluster, table_name="rarely", **values)
        copies(clusters, 25, cluster, table_name="well_loaded")
    assert clusters.finds("loads") == [(signal, "dev.orders", value)]


def test_load_errors(clusters: Clusters) -> None:
    name = clusters.table(1)
    row: dict[str, Any] = {
        "source_view": "v",
        "query": 5,
        "query_id": 5,
        "database_name": "dev",
        "table_id": 1,
        "position": 0,
    }
    row |= {"file_md5": "x", "column_name": "id", "error_message": "Invalid digit"}
    for line, days in ((1, 1), (2, 1), (3, 8)):
        clusters.insert("load_errors", row | {"line_number": line, "start_time": clusters.now - timedelta(days=days)})
    clusters.insert(
        "load_errors", row | {"line_number": 1, "start_time": clusters.now - timedelta(days=8)}, cluster="well"
    )
    assert clusters.finds("loads") == [("load_errors", name, 2)]
    assert clusters.target("SELECT note FROM quper.health_open WHERE group_id = 'loads'") == [("id: Invalid digit",)]


def test_materialized_views(clusters: Clusters) -> None:
    def view(name: str, state: int, stale: bool, auto: bool, schema: str = "bi", cluster: str = "sick") -> None:
        row = {"database_name": "dev", "schema_name": schema, "name": name, "state": state}
        clusters.insert("materialized_views", row | {"is_stale": stale, "autorefresh": auto}, cluster=cluster)

    view("full", 0, False, True)
    view("broken", 101, True, True)
    view("stale", 1, True, False)
    for cluster in ("sick", "well"):
        view("fine", 1, False, True, cluster=cluster)
        view("by_hand", 101, True, False, cluster=cluster)
        view("automatic", 0, True, True, "pg_automv", cluster=cluster)
    assert clusters.finds("materialized_views") == [
        ("view_not_refreshable", "dev.bi.broken", 101),
        ("view_refreshed_completely", "dev.bi.full", 0),
        ("view_stale", "dev.bi.stale", 1),
    ]


def queue(clusters: Clusters, number: int, cluster: str = "sick", **values: Any) -> None:
    row = {"name": f"q{number}", "num_query_tasks": -1, "concurrency_scaling": "off", "query_priority": "Normal"}
    clusters.insert("wlm_queues", {"service_class": number, "conditions": 1, **row, **values}, cluster=cluster)


def rule(clusters: Clusters, number: int, metric: str, cluster: str = "sick") -> None:
    row = {"service_class": number, "rule_name": metric, "metric_name": metric, "metric_operator": ">"}
    clusters.insert("wlm_rules", row, cluster=cluster)


def test_queues(clusters: Clusters) -> None:
    queue(clusters, 5, query_priority="")
    queue(clusters, 100, query_priority="")
    queue(clusters, 101, conditions=0, concurrency_scaling="auto")  # not in use
    for number, more in ((14, {}), (100, {"concurrency_scaling": "auto"}), (101, {"query_priority": "High"})):
        queue(clusters, number, "well", **more)
    for metric in ("query_execution_time", "query_temp_blocks_to_disk"):
        rule(clusters, 100, metric, "well")
    found = clusters.finds("queues")
    assert {name for _, name, _ in found} == {"workload management"} and {value for *_, value in found} == {1}
    assert [signal for signal, *_ in found] == [
        "no_concurrency_scaling",
        "no_monitoring_rules",
        "no_rule_on_execution_time",
        "no_rule_on_spill",
        "no_short_query_acceleration",
        "one_priority",
        "one_queue",
    ]


def test_manual_queues(clusters: Clusters) -> None:
    for cluster, first in (("sick", 6), ("well", 100)):
        for number, more in (
            (14, {}),
            (first, {"concurrency_scaling": "auto"}),
            (first + 1, {"query_priority": "High"}),
        ):
            queue(clusters, number, cluster, **more)
        for metric in ("query_execution_time", "query_temp_blocks_to_disk"):
            rule(clusters, first, metric, cluster)
    assert clusters.finds("queues") == [("manual_wlm", "workload management", 2)]


def test_the_load_of_a_serverless_workgroup_varies(clusters: Clusters) -> None:
    for cluster, high in (("sick", 32), ("well", 31)):
        for minute in range(60):
            row = {
                "start_time": clusters.now - timedelta(minutes=minute),
                "compute_capacity_rpu": (16, high)[minute % 2],
            }
            clusters.insert("serverless_usage", row, cluster=cluster)
    assert clusters.finds("serverless") == [("variable_serverless_load", "workgroup", 2)]


def test_growth_forecast_and_what_no_query_uses(clusters: Clusters) -> None:
    today, hour = clusters.now.date(), clusters.now.replace(minute=0)
    growing = clusters.table(1, size_mb=20_000)
    unused = clusters.table(9, size_mb=77)
    for cluster, week_ago, used in (("sick", 10_000, 30_000), ("well", 19_000, 30)):
        if cluster == "well":
            clusters.table(1, cluster, size_mb=20_000)
            clusters.table(9, cluster, create_time=clusters.now - _days(29))
        for ago, size in ((30, 8_000), (7, week_ago), (0, 20_000)):
            row = {"table_id": 1, "database": "dev", "day": today - _days(ago), "size_mb": size, "removed": False}
            clusters.insert("table_stats_daily", row, cluster=cluster)
        # 1000 MB a day until 50,000 of 100,000 MB, or 1 MB a day.
        for ago in range(10):
            row = {"node": 0, "day": today - _days(ago), "used_mb": 45_000 - ago * used // 10, **FULL, "removed": False}
            clusters.insert("node_details_daily", row, cluster=cluster)
            read = {"table_name": "node_details", "day": today - _days(ago), "last_read_at": clusters.now}
            clusters.insert("snapshot_days", read | {"is_complete": True}, cluster=cluster)
        clusters.insert("node_details", {"node": 0, "used_mb": 45_000, **FULL}, cluster=cluster)
        for table, ago in ((1, 1), (8, 40)):
            clusters.insert("table_scan_stats", {"table_id": table, "scan_hour": hour - _days(ago)}, cluster=cluster)
        for user, ago in (("anna", 31 if cluster == "sick" else 29), ("bert", 1)):
            seen = {"application_name": "a", "user_name": user, "database_name": "dev"}
            clusters.insert("applications", seen | {"last_seen": hour - _days(ago)}, cluster=cluster)
        for attempt in range(3):
            at = clusters.now - timedelta(hours=9 - attempt)
            end = "Failed" if cluster == "sick" or attempt else "Finished"
            for status, more in (("Started", 0), (end, 1)):
                step = {"xid": attempt, "table_id": 9, "status": status, "eventtime": at + timedelta(minutes=more)}
                clusters.insert("vacuum_history", step, cluster=cluster)
    assert clusters.finds("trends") == [
        ("disk_full_soon", "node 0", 19),
        ("unusual_growth", growing, 10_000),
        ("user_without_queries", "user anna", 31),
        ("vacuum_fails", unused, 3),
    ]
    assert ("unused_table", unused, 77) in clusters.open("tables")
    assert [row for row in clusters.open("tables", "well") if row[0] == "unused_table"] == []
