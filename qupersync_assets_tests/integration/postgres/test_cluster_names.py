"""Odd names of clusters are stored, read, locked, shown and purged as they are."""

from __future__ import annotations

import pytest

from qupersync_assets_tests.support.integration import Command, Query, Sync

NAMES = [
    *(
        "prod-eu.1",
        "Prod",
        "prod",
        "two words",
        "it's",
        '"quoted"',
        "100%",
        "%s",
        "a_b",
        "a*b?",
        "$HOME",
        "back\\slash",
    ),
    *("Zürich", "東京", "select", "default"),
]


def test_odd_names_of_clusters(sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    source("INSERT INTO stv_node_storage_capacity SELECT n, n, 9000 FROM generate_series(1, 2) n")
    source("INSERT INTO sys_query_history (user_id, query_id, start_time) VALUES (100, 1, getdate())")
    for name in NAMES:
        monkeypatch.setenv("CLUSTER_NAME", name)
        assert sync("node_details", "query_history").success, name
    for table, rows in (("node_details", 2), ("query_history", 1), ("sync_logs", 2)):
        found = target(f"SELECT cluster, count(*) FROM quper.{table} GROUP BY 1")
        assert sorted(found) == sorted((name, rows) for name in NAMES)


def test_a_name_is_shown_as_it_is(qupersync: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('it\'s 100% "东\\京"', "[red]%s{0}"):
        monkeypatch.setenv("CLUSTER_NAME", name)
        assert qupersync("sync", "node_details").code == 0
        assert {job["cluster"] for job in qupersync("status", "--json").json["jobs"]} == {name}
        assert qupersync("purge", "--older-than", "30d", "--yes").code == 0
