"""Two clusters, each with its own choice of databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets_tests.integration.databases.conftest import Fill, drop
from qupersync_assets_tests.support.integration import Command, Query


@pytest.fixture
def south(databases: Sandbox, two_clusters: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A second cluster with the databases south and south_sales."""
    for name in ("south", "south_sales"):
        databases.create_database(name, cluster="south")
    monkeypatch.setenv("REDSHIFT_SOUTH_DATABASE", "south")
    yield
    for name in ("south", "south_sales"):
        drop(databases, name)


def test_each_cluster_has_its_own_databases(
    south: None, qupersync: Command, fill: Fill, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDSHIFT_DATABASES", "redshift,sales")
    monkeypatch.setenv("REDSHIFT_SOUTH_DATABASES", "*")
    for name in ("redshift", "sales", "south", "south_sales"):
        fill(name, orders=1, users=2)
    assert qupersync("sync", "table_stats", "column_stats").code == 0
    fill("south_sales", orders=1)
    for _ in range(2):
        assert qupersync("sync", "table_stats", "column_stats").code == 0
    expected = [
        *(("north", database, name) for database in ("redshift", "sales") for name in ("orders", "users")),
        *(("south", "south", name) for name in ("orders", "users")),
        ("south", "south_sales", "orders"),
    ]
    assert target("SELECT cluster, database, table_name FROM quper.table_stats_current ORDER BY 1, 2, 3") == expected
    assert (
        target("SELECT cluster, table_catalog, table_name FROM quper.column_stats_current ORDER BY 1, 2, 3") == expected
    )
    assert target("SELECT count(*) FROM quper.table_stats") == [(8,)]
