"""`qupersync health`: order, filters, JSON, exit codes, and lines that fit 80 columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.retention import purge_health
from qupersync_assets_tests.support.health import Clusters
from qupersync_assets_tests.support.integration import Command, Query


@pytest.fixture
def clusters(two_clusters: None, postgres: PostgresResource, target: Query) -> Clusters:
    """A critical finding, warnings and informational ones of the cluster north; south is well."""
    clusters = Clusters(postgres, target)
    long = "a_table_with_a_name_that_is_much_longer_than_those_of_most_tables_are"
    clusters.insert("node_details", {"node": 0, "used_mb": 95_000, "capacity_mb": 100_000}, cluster="north")
    clusters.table(1, "north", stats_off_pct=30, table_name=long, size_mb=10)
    clusters.table(2, "north", stats_off_pct=12.5, size_mb=90_000)
    clusters.table(3, "north", sort_key1="id", tbl_rows=10, estimated_visible_rows=10)
    for cluster in ("north", "south"):
        clusters.synced(cluster=cluster)
    return clusters


def test_what_to_fix_first(clusters: Clusters, qupersync: Command) -> None:
    assert qupersync("health").code == 1  # not evaluated yet
    answer = qupersync("health", "--evaluate")
    assert answer.code == 4
    lines = answer.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("Cluster north: 1 critical, 3 warning, 2 info; evaluated ")
    assert lines[1].startswith("Cluster south: 0 critical, 0 warning, 0 info; evaluated ")
    text = " ".join(answer.out.split())
    places = [
        text.index(part) for part in ("1. critical: ", "north: node 0 95 %", "table_2 12.5 %", "ANALYZE sales.a_table")
    ]
    assert places == sorted(places)
    assert "Jobs that are off in SYNC_JOBS: " in text and "load_history_sync" in text


def test_filters_and_exit_codes(clusters: Clusters, qupersync: Command, target: Query) -> None:
    qupersync("health", "--evaluate")
    tables = qupersync("health", "--group", "tables", "--json")
    assert tables.code == 3
    found = tables.json
    assert found.keys() == {"worst", "clusters", "groups", "findings", "not_evaluated"}
    assert found["worst"] == "warning" and {row["group_id"] for row in found["findings"]} == {"tables"}
    first = found["findings"][0]
    assert (first["object"], first["value"], first["unit"], first["remedy"]) == (
        *("dev.sales.table_2", 12.5, "%"),
        "ANALYZE sales.table_2;",
    )
    worst = qupersync("health", "--severity", "critical", "--json").json
    assert [row["signal_id"] for row in worst["findings"]] == ["storage_nearly_full"]
    south = qupersync("health", "--cluster", "south")
    assert south.code == 0 and "No findings." in south.out
    target("UPDATE quper.health_findings SET opened_at = opened_at - interval '9 days' WHERE object LIKE '%%table_2'")
    new = qupersync("health", "--group", "tables", "--since", "7d", "--json").json
    assert "dev.sales.table_2" not in {row["object"] for row in new["findings"]} and new["findings"]
    few = qupersync("health", "--limit", "2").out
    assert "2 of 6 open findings" in few and "3. " not in few


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--group", "table"], "There is no group table. Groups: external_queries, loads,"),
        (["--cluster", "west"], "There is no cluster west."),
    ],
)
def test_unknown_names_are_refused(clusters: Clusters, qupersync: Command, arguments: list[str], expected: str) -> None:
    answer = qupersync("health", *arguments)
    assert answer.code == 2 and expected in answer.err


def test_retention_keeps_open_findings(clusters: Clusters, postgres: PostgresResource, target: Query) -> None:
    clusters.evaluate("north")
    target(
        "UPDATE quper.health_findings SET first_seen = first_seen - interval '1 year', "
        "resolved_at = CASE WHEN severity = 'info' THEN now() - interval '100 days' END"
    )
    assert purge_health(postgres, "north", None) == {}
    assert purge_health(postgres, "south", 90)["quper.health_findings"] == 0
    assert purge_health(postgres, "north", 90, dry_run=True)["quper.health_findings"] == 2
    assert purge_health(postgres, "north", 90)["quper.health_findings"] == 2
    assert target("SELECT count(*) FROM quper.health_findings") == [(4,)]


def test_the_page_is_written_whole_or_not_at_all(clusters: Clusters, qupersync: Command, tmp_path: Path) -> None:
    file = tmp_path / "health.html"
    answer = qupersync("health", "--evaluate", "--html", str(file))
    assert (answer.code, answer.out) == (4, f"Page: {file.as_uri()}\n")
    assert all(f"Redshift health: {cluster}" in file.read_text("utf-8") for cluster in ("north", "south"))
    answer = qupersync("health", "--cluster", "south", "--html", str(file), "--json")
    assert answer.code == 0 and answer.json["html"] == str(file)
    assert "Redshift health: north" not in file.read_text("utf-8")
    assert file.stat().st_mode & 0o077 == 0
    # A folder in the way.
    answer = qupersync("health", "--html", str(tmp_path))
    assert answer.code == 1 and f"{tmp_path} cannot be written: " in answer.err
    answer = qupersync("health", "--html", str(tmp_path / "nowhere" / "health.html"))
    assert answer.code == 1 and "No such file or directory" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["empty", "health.html"]
