"""`qupersync clusters`: list, rename and forget, over every table that has a column `cluster`."""

from __future__ import annotations

import os
from contextlib import closing

import pytest
import sqlalchemy as sa

from qupersync_assets.postgres.advisory_lock import JobConnection
from qupersync_assets.postgres.clusters import cluster_names, cluster_tables
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import migrate, tables
from qupersync_assets.spec import METADATA
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.integration import Command, Query

# A value of each type, for the columns that need one.
VALUES = {
    "text": "'x'", "bigint": "1", "integer": "1", "smallint": "1", "boolean": "true", "date": "'2026-01-01'",
    "double precision": "1", "numeric": "1", "timestamp with time zone": "now()", "ARRAY": "'{}'", "uuid": "gen_random_uuid()", "jsonb": "'{}'",
    "timestamp without time zone": "'2026-01-01'",
}  # fmt: skip
COLUMNS = """
SELECT column_name, data_type FROM information_schema.columns
WHERE table_schema = 'quper' AND table_name = %s AND is_generated = 'NEVER' AND is_identity = 'NO'
  AND (is_nullable = 'NO' AND column_default IS NULL OR data_type = 'text') AND column_name <> 'cluster'"""


@pytest.fixture
def every_table(postgres: PostgresResource, target: Query) -> list[str]:
    """All tables of all jobs, and a table of a later version; each with a row of the clusters old and kept."""
    migrate(postgres, all_specs())
    target("CREATE TABLE quper.later (id bigint, cluster text, PRIMARY KEY (cluster, id))")
    target("ALTER TABLE quper.later OWNER TO qupersync")
    with postgres.transaction() as connection:
        names = cluster_tables(connection)
    for table in names:
        needed: dict[str, str] = dict(target(COLUMNS, [table]))
        columns = ", ".join(["cluster", *(f'"{name}"' for name in needed)])
        values = "".join(f", {VALUES[kind]}" for kind in needed.values())
        target(f"INSERT INTO quper.{table} ({columns}) SELECT c{values} FROM unnest(ARRAY['old', 'kept']) c")
    return names


def clusters_of(target: Query, table: str) -> set[str]:
    return {name for (name,) in target(f"SELECT cluster FROM quper.{table}")}


def test_each_table_with_a_cluster_takes_part(every_table: list[str], postgres: PostgresResource) -> None:
    declared = {table.name for table in METADATA.tables.values() if "cluster" in table.c}
    assert declared >= {table.name for table in tables(all_specs()) if "cluster" in table.c}
    assert set(every_table) == {name for name in declared if name in every_table} | {"later"}
    assert {table.name for table in tables(all_specs()) if "cluster" in table.c} <= set(every_table)
    assert cluster_names(postgres) == ["kept", "old"]


def test_a_renamed_cluster_has_its_new_name_everywhere(
    every_table: list[str], qupersync: Command, target: Query
) -> None:
    counted = qupersync("clusters", "rename", "old", "sandbox", "--json")
    assert counted.code == 0 and not counted.json["changed"]
    assert counted.json["rows"] == dict.fromkeys(every_table, 1)
    assert all(clusters_of(target, table) == {"old", "kept"} for table in every_table)
    renamed = qupersync("clusters", "rename", "old", "sandbox", "--yes", "--json")
    assert renamed.json == {**counted.json, "changed": True}
    assert all(clusters_of(target, table) == {"sandbox", "kept"} for table in every_table)


def test_a_forgotten_cluster_has_no_row(every_table: list[str], qupersync: Command, target: Query) -> None:
    assert "Nothing was changed" in qupersync("clusters", "forget", "old").out
    assert all(clusters_of(target, table) == {"old", "kept"} for table in every_table)
    assert qupersync("clusters", "forget", "old", "--yes", "--json").json["rows"] == dict.fromkeys(every_table, 1)
    assert all(clusters_of(target, table) == {"kept"} for table in every_table)
    assert target("SELECT DISTINCT cluster FROM quper.table_stats_current") == [("kept",)]


def test_a_rename_onto_a_cluster_with_rows_changes_nothing(
    every_table: list[str], qupersync: Command, target: Query
) -> None:
    refused = qupersync("clusters", "rename", "old", "kept", "--yes", "--json")
    assert refused.code == 1
    assert "kept already has rows" in refused.json["error"] and "forget kept" in refused.json["error"]
    assert all(clusters_of(target, table) == {"old", "kept"} for table in every_table)


def test_a_name_with_failed_runs_only_is_free(every_table: list[str], qupersync: Command, target: Query) -> None:
    for table in every_table:
        if table not in ("sync_logs", "sync_totals", "cluster_connections"):
            target(f"DELETE FROM quper.{table} WHERE cluster = 'kept'")
    target("UPDATE quper.sync_logs SET run_id = cluster")
    assert qupersync("clusters", "rename", "old", "kept", "--yes").code == 0
    assert all(clusters_of(target, table) == {"kept"} for table in every_table)


@pytest.mark.parametrize("arguments", [("rename", "old", "new"), ("rename", "new", "old"), ("forget", "old")], ids=str)
def test_a_cluster_that_is_being_loaded_is_not_changed(
    every_table: list[str], qupersync: Command, engine: sa.Engine, target: Query, arguments: tuple[str, ...]
) -> None:
    with closing(JobConnection(engine, "old", "node_details_sync")) as load, load.begin():
        refused = qupersync("clusters", *arguments, "--yes", "--json")
    assert refused.code == 1 and "node_details_sync of cluster old is being loaded" in refused.json["error"]
    assert all(clusters_of(target, table) == {"old", "kept"} for table in every_table)


def test_an_unknown_name_is_answered_with_the_known_ones(every_table: list[str], qupersync: Command) -> None:
    for arguments in (("rename", "x", "y"), ("forget", "x")):
        unknown = qupersync("clusters", *arguments, "--yes")
        assert unknown.code == 1 and "no rows of a cluster x" in unknown.err and "kept, old" in unknown.err
    assert qupersync("clusters", "rename", "old", "old").code == 2


def test_the_list_shows_leftovers_and_what_the_settings_name(
    every_table: list[str], qupersync: Command, target: Query
) -> None:
    target("UPDATE quper.sync_logs SET status = 'success', completed_at = '2026-01-02T00:00Z' WHERE cluster = 'old'")
    found = {cluster["cluster"]: cluster for cluster in qupersync("clusters", "--json").json["clusters"]}
    assert set(found) == {"sandbox", "old", "kept"}
    assert {name: cluster["in_settings"] for name, cluster in found.items()} == {
        "sandbox": True,
        "old": False,
        "kept": False,
    }
    assert found["old"]["rows"] == len(every_table) and found["sandbox"]["rows"] == 0
    assert found["old"]["last_success_at"].startswith("2026-01-02")
    assert found["old"]["size_bytes"] > 0 and found["old"]["newest_row_at"]
    text = qupersync("clusters").out
    assert text.count("leftover") == 2


def test_without_a_schema_there_is_nothing_to_change(bare: PostgresResource, qupersync: Command) -> None:
    for arguments in ((), ("rename", "a", "b", "--yes"), ("forget", "a", "--yes")):
        answer = qupersync("clusters", *arguments)
        assert answer.code == 1 and "no schema quper" in answer.err


def test_syncs_go_on_under_the_new_name_and_without_the_forgotten_cluster(
    two_clusters: None, source: Query, target: Query, qupersync: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    source("INSERT INTO stv_node_storage_capacity VALUES (0, 1, 100), (1, 1, 100)")
    source("INSERT INTO sys_query_history (user_id, query_id, start_time) SELECT 100, 7, getdate()")
    jobs = ("node_details_sync", "query_history_sync")
    assert qupersync("sync", *jobs).code == 0
    target(
        "INSERT INTO quper.query_history (cluster, query_id, start_time) VALUES ('north', 1, now() - interval '60 d')"
    )

    assert qupersync("clusters", "rename", "north", "polar", "--yes").code == 0
    assert qupersync("clusters", "forget", "south", "--yes").code == 0
    monkeypatch.setenv("CLUSTERS", "polar,other")
    for name in ("HOST", "PASSWORD"):
        for cluster in ("POLAR", "OTHER"):
            monkeypatch.setenv(f"REDSHIFT_{cluster}_{name}", os.environ[f"REDSHIFT_NORTH_{name}"])
    assert qupersync("sync", *jobs, "--cluster", "polar").code == 0
    nodes = "SELECT cluster, count(*) FROM quper.node_details_current GROUP BY 1"
    assert target(nodes) == [("polar", 2)]
    # The history goes on from the rows of the old name, which are neither read nor written again.
    assert target("SELECT cluster, query_id FROM quper.query_history WHERE query_id < 9 ORDER BY 2") == [
        ("polar", 1),
        ("polar", 7),
    ]
    last = "SELECT rows_inserted, read_mode FROM quper.sync_logs WHERE sync_job_id = 'query_history_sync' ORDER BY id"
    assert target(last)[-1] == (0, "incremental")
    listed = {cluster["cluster"]: cluster["rows"] for cluster in qupersync("clusters", "--json").json["clusters"]}
    assert set(listed) == {"polar", "other"} and listed["other"] == 0
