"""Signals about queries: use of queues, long statements, idle time, and what changed between two weeks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from qupersync_assets_tests.support.health import Clusters

QUEUE = "queue 100 (Default queue)"


@pytest.mark.parametrize(
    ("signal", "problem", "harmless"),
    [
        ("many_copies", (101, {"query_type": "COPY"}), (100, {"query_type": "COPY"})),
        ("many_small_inserts", (101, {"rows_inserted": 100}), (101, {"rows_inserted": 101})),
        ("spilling", (101, {"spilled_local_mb": 1}), (101, {"spilled_local_mb": 0})),
        ("queueing", (5.01, {"queue_time_us": 50_100}), (1, {"queue_time_us": 50_000})),
        ("concurrency_scaling", (601, {"compute_type": "secondary"}), (600, {"compute_type": "secondary"})),
    ],
)
def test_an_hour_of_a_queue_is_found(
    clusters: Clusters, signal: str, problem: tuple[float, dict[str, Any]], harmless: tuple[int, dict[str, Any]]
) -> None:
    value, values = problem
    count = 1 if signal == "queueing" else int(value)
    clusters.queries(count, hours=2, **values)
    clusters.queries(count, hours=30, **values)
    for cluster in ("sick", "well"):
        number, near = harmless
        clusters.queries(number, hours=5, cluster=cluster, **near)
        clusters.queries(count, hours=24 * 7 + 2, cluster=cluster, **values)  # too old
        clusters.queries(count, hours=6, cluster=cluster, service_class_id=4, **values)  # of the system
    assert clusters.finds("usage") == [(signal, QUEUE, value)]
    [(times, note)] = clusters.target("SELECT times, note FROM quper.health_open WHERE group_id = 'usage'")
    hour = clusters.now.replace(minute=0) - timedelta(hours=2)
    assert (times, note) == (2, f"worst in the hour of {hour:%Y-%m-%d %H:00} UTC")


def test_only_new_queries_are_summed_again(clusters: Clusters) -> None:
    before = clusters.now - timedelta(hours=1)
    clusters.queries(60, hours=3, query_type="COPY", synced_at=before)
    clusters.queries(60, hours=30, query_type="COPY", synced_at=before)
    clusters.queries(60, hours=3, query_type="COPY", cluster="well")
    assert clusters.finds("usage") == []
    written = "SELECT hour, xmin::text FROM quper.health_query_hours WHERE cluster = 'sick' ORDER BY hour"
    [old, late] = clusters.target(written)
    clusters.now += timedelta(minutes=11)
    clusters.queries(50, hours=3, query_type="COPY")
    assert clusters.finds("usage") == [("many_copies", QUEUE, 110)]
    [same, again] = clusters.target(written)
    assert same == old and again[0] == late[0] and again[1] != late[1]


def test_queries_of_a_load_that_was_killed_are_summed(clusters: Clusters) -> None:
    clusters.queries(60, hours=3, query_type="COPY")
    assert clusters.finds("usage") == []
    clusters.now += timedelta(minutes=20)
    wrote = clusters.now - timedelta(minutes=10)
    killed = {"sync_job_id": "query_history_sync", "run_id": "killed", "status": "running", "started_at": wrote}
    clusters.insert("sync_logs", killed)
    clusters.queries(50, hours=3, query_type="COPY", synced_at=wrote)
    assert clusters.finds("usage") == [("many_copies", QUEUE, 110)]


def test_the_longest_statements_with_their_alerts_and_metrics(clusters: Clusters) -> None:
    long: dict[str, Any] = {"execution_time_us": 90_000_000}
    events = {
        "statistics": "Missing query planner statistics",
        "loop": "Nested Loop Join in the query plan",
        "moved": "Broadcasted a large number of rows across the network",
        "sort": "Very selective query filter:ratio=rows(1)/rows_pre_user_filter(9)",
        "inner": "DS_DIST_ALL_INNER for Hash Join in the query plan",
    }
    for number, (pattern, event) in enumerate(events.items(), 1):
        clusters.queries(generic_query_hash=pattern, query_text=f"SELECT {number}", **long)
        alert = {"source_view": "v", "segment": 0, "step": 0, "event_time": clusters.now, "table_name": "Orders"}
        alert |= {"query": number, "query_id": number, "event": event, "table_id": number}
        clusters.insert("alert_events", alert)
    clusters.table(1, table_name="Orders")
    clusters.queries(generic_query_hash="loop rows", nested_loop_rows=5_000_001, **long)
    clusters.queries(generic_query_hash="sort rows", unsorted_rows=5_000_001, **long)
    clusters.queries(generic_query_hash="spill", spilled_local_mb=1_000_001, **long)
    for cluster in ("sick", "well"):
        clusters.queries(
            cluster=cluster, generic_query_hash="fine", nested_loop_rows=5_000_000, unsorted_rows=5e6, **long
        )
        clusters.queries(cluster=cluster, generic_query_hash="short", broadcast_rows=9e9, execution_time_us=1_000_000)
        clusters.queries(cluster=cluster, generic_query_hash="ddl", broadcast_rows=9e9, query_type="DDL", **long)
    assert clusters.finds("long_queries") == [
        ("long_query_distribution", "statement inner", 90),
        ("long_query_distribution", "statement moved", 90),
        ("long_query_missing_statistics", "statement statistics", 90),
        ("long_query_nested_loop", "statement loop", 90),
        ("long_query_nested_loop", "statement loop rows", 90),
        ("long_query_sort", "statement sort", 90),
        ("long_query_sort", "statement sort rows", 90),
        ("long_query_spill", "statement spill", 1_000_001),
    ]
    rows = clusters.target(
        "SELECT query_id, pattern, note, remedy FROM quper.health_open WHERE query_id IN (1, 4) ORDER BY query_id"
    )
    note = f"{events['sort']}: SELECT 4"
    assert rows == [
        (1, "statistics", "Missing query planner statistics: SELECT 1", 'ANALYZE sales."Orders";'),
        (4, "sort", note, "ALTER TABLE Orders ALTER SORTKEY (COLUMN); -- the column that it filters by"),
    ]


@pytest.mark.parametrize(("hours", "found"), [(17.9, []), (18, [75.0])])
def test_a_cluster_that_is_idle_three_quarters_of_the_day(clusters: Clusters, hours: float, found: list[float]) -> None:
    for cluster in ("sick", "well"):
        for day in range(1, 4):
            # One query runs for six hours; the other one ends it for the cluster `well`.
            seconds = int((24 - hours if cluster == "sick" else 20) * 3600) - 60
            start = clusters.now.replace(minute=0) - timedelta(days=day)
            clusters.queries(hours=24 * day, cluster=cluster)
            clusters.target(
                "UPDATE quper.query_history SET end_time = %s WHERE start_time = %s AND cluster = %s",
                [start + timedelta(seconds=seconds), start, cluster],
            )
    assert [value for _, _, value in clusters.finds("serverless")] == found


def test_a_statement_that_got_slower(clusters: Clusters) -> None:
    for cluster, slow in (("sick", 11_000_000), ("well", 4_000_000)):
        for pattern, before, now in (("a", 4_000_000, slow), ("b", 1_000_000, 1_400_000)):
            clusters.queries(10, hours=24 * 9, cluster=cluster, generic_query_hash=pattern, execution_time_us=before)
            clusters.queries(10, hours=24, cluster=cluster, generic_query_hash=pattern, execution_time_us=now)
        clusters.queries(9, hours=24, cluster=cluster, generic_query_hash="new", execution_time_us=99_000_000)
    assert clusters.finds("trends") == [("statement_slower", "statement a", 2.75)]


def test_a_statement_that_fails_and_did_not_fail_before(clusters: Clusters) -> None:
    failed: dict[str, Any] = {"status": "failed", "error_message": "ERROR: relation\n does not exist"}
    for cluster in ("sick", "well"):
        clusters.queries(10, hours=24 * 10, cluster=cluster)
        clusters.queries(3, hours=24 * 9, cluster=cluster, generic_query_hash="old", **failed)
        clusters.queries(3, hours=24, cluster=cluster, generic_query_hash="old", **failed)
        clusters.queries(2, hours=24, cluster=cluster, generic_query_hash="rare", **failed)
    clusters.queries(3, hours=24, generic_query_hash="new", **failed)
    assert clusters.finds("trends") == [("new_failing_statement", "statement new", 3)]
    notes = clusters.target("SELECT note FROM quper.health_open WHERE group_id = 'trends'")
    assert notes == [("ERROR: relation does not exist",)]


def test_costs_are_shared_by_execution_time(clusters: Clusters) -> None:
    for cluster in ("sick", "well"):
        clusters.queries(3, hours=5, cluster=cluster, user_name="anna", application_name="dbt")
        clusters.queries(1, hours=3, cluster=cluster, user_name="bert", generic_query_hash="p2")
        clusters.synced(cluster=cluster)
    clusters.evaluate("sick", price_per_hour=4.0)
    clusters.evaluate("well")
    costs = "SELECT name, share_pct::float, cost::float FROM quper.health_cost WHERE cluster = %s AND kind = %s ORDER BY 2 DESC"
    [(_, most, price), (_, least, rest)] = clusters.target(costs, ["sick", "user"])
    assert (most, least) == (75, 25) and price == 3 * rest
    hours = (price + rest) / 4
    assert hours in (5, 6, 7)  # since the first query
    assert clusters.target(costs, ["sick", "application"]) == [("dbt", 75, price), ("", 25, rest)]
    assert clusters.target(costs, ["sick", "statement"]) == [("p1", 75, price), ("p2", 25, rest)]
    assert clusters.target(costs, ["well", "user"]) == [("anna", 75, None), ("bert", 25, None)]
    weeks = clusters.target(
        "SELECT pattern, queries::int, mean_s::float, queries_before FROM quper.health_statements "
        "WHERE cluster = 'sick' ORDER BY pattern"
    )
    assert weeks == [("p1", 3, 1, None), ("p2", 1, 1, None)]
