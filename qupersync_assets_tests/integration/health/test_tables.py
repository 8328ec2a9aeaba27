"""Signals about tables: each fires once, for its table, and not for a table that is only close to it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from qupersync_assets_tests.support.health import Clusters

SMALL = {"tbl_rows": 5_000_000, "estimated_visible_rows": 5_000_000}
# By signal: values of a table that has the problem, its measured value, and values of a table that nearly has it.
PROBLEMS: dict[str, tuple[dict[str, Any], float, dict[str, Any]]] = {
    "large_table_without_sort_key": ({"sort_key1": None}, 10_000_000, {"sort_key1": None, **SMALL}),
    "large_table_with_skew": (
        {"skew_rows": 4, "diststyle": "KEY(customer)"},
        4,
        {"skew_rows": 3.99, "diststyle": "KEY(customer)"},
    ),
    "large_table_unsorted": ({"vacuum_sort_benefit_pct": 10}, 10, {"vacuum_sort_benefit_pct": 9.99}),
    "interleaved_sort_key": ({"sort_key1": "INTERLEAVED"}, 10_000_000, {}),
    "small_table_not_all": (SMALL | {"diststyle": "EVEN"}, 5_000_000, SMALL | {"diststyle": "ALL"}),
    "small_table_with_sort_key": (SMALL | {"sort_key1": "id"}, 5_000_000, {"sort_key1": "id"}),
    "large_table_needs_vacuum_delete": (
        {"estimated_visible_rows": 8_900_000},
        11,
        {"estimated_visible_rows": 9_000_000},
    ),
    "statistics_out_of_date": ({"stats_off_pct": 10.01, **SMALL}, 10.01, {"stats_off_pct": 10}),
    "encoded_sort_key": (
        {"sort_key1": "created_at", "sortkey1_enc": "az64"},
        10_000_000,
        {"sort_key1": "created_at", "sortkey1_enc": "none"},
    ),
}


def test_each_problem_is_found_once_for_its_table(clusters: Clusters) -> None:
    found = []
    for number, (signal, (problem, value, harmless)) in enumerate(PROBLEMS.items(), 1):
        found.append((signal, clusters.table(number, **problem), value))
        for cluster in ("sick", "well"):
            clusters.table(100 + number, cluster, **harmless)
            clusters.table(200 + number, cluster, schema="pg_internal", **problem)  # of Redshift itself
            clusters.table(300 + number, cluster, removed_at=clusters.now, **problem)
        clusters.table(number, "well")
    assert clusters.finds("tables") == sorted(found)


def test_columns_show_compression_and_distribution_by_date(clusters: Clusters) -> None:
    key = {"distkey": True}
    few = [{"encoding": "none"}, *({} for _ in range(2)), {"encoding": "none"}]
    uncompressed = clusters.table(1)
    clusters.columns(1, *few)
    by_type = clusters.table(2, diststyle="KEY(column_1)")
    clusters.columns(2, {"data_type": "timestamp without time zone", **key})
    by_column_name = clusters.table(3, diststyle="KEY(order_date)")
    clusters.columns(3, {"column_name": "order_date", "data_type": "character varying", **key})
    for cluster in ("sick", "well"):
        clusters.table(4, cluster, diststyle="KEY(column_1)")  # a number, and only the sort key is not compressed
        clusters.columns(4, {"encoding": "none", **key}, {}, {}, cluster=cluster)
        clusters.table(5, cluster, diststyle="AUTO(KEY(order_date))")
    assert clusters.finds("tables") == [
        ("distributed_by_date", by_type, 10_000_000),
        ("distributed_by_date", by_column_name, 10_000_000),
        ("low_compression", uncompressed, 50),
    ]


def test_thresholds_and_the_size_of_large_tables_are_options(clusters: Clusters) -> None:
    name = clusters.table(1, skew_rows=5, diststyle="EVEN", tbl_rows=1000, estimated_visible_rows=1000)
    clusters.table(1, "well")
    found = clusters.finds("tables", large_rows=999, thresholds={"large_table_with_skew": 5.0})
    assert found == [("large_table_with_skew", name, 5)]


def test_a_finding_says_how_often_it_occurs_and_what_helps(clusters: Clusters) -> None:
    clusters.table(1, schema="Sales", stats_off_pct=50, table_name="the orders", size_mb=77)
    for hours, scans in ((2, 3), (48, 4), (24 * 8, 100)):
        hour = clusters.now.replace(minute=0) - timedelta(hours=hours)
        clusters.insert("table_scan_stats", {"table_id": 1, "scan_hour": hour, "scans": scans})
    clusters.finds("tables")
    assert clusters.target(
        "SELECT object, size_mb, times, times_are, remedy, unit, threshold::int, database, table_id FROM quper.health_open"
    ) == [
        (*("dev.Sales.the orders", 77, 7, "scans in seven days", 'ANALYZE "Sales"."the orders";', "%", 10), *("dev", 1))
    ]


def test_a_table_is_unused_for_the_days_of_the_threshold(clusters: Clusters) -> None:
    old: dict[str, Any] = {"create_time": clusters.now - timedelta(days=60)}
    tables = [clusters.table(number, **old) for number in (1, 2, 3)]
    hour = clusters.now.replace(minute=0)
    for table, days in ((1, 4), (2, 29), (3, 31)):
        clusters.insert("table_scan_stats", {"table_id": table, "scan_hour": hour - timedelta(days=days), "scans": 1})
    for threshold, unused in ((None, tables[2:]), (3.0, tables), (5.0, tables[1:]), (40.0, [])):
        clusters.now += timedelta(minutes=1)
        found = clusters.finds("tables", thresholds={"unused_table": threshold} if threshold else {})
        assert [name for _, name, _ in found] == unused, threshold
