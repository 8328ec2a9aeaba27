"""Rows that a complete read of a snapshot does not find are marked as removed, until they are found again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qupersync_assets_tests.support.integration import Query, Sync

NODES = "INSERT INTO stv_node_storage_capacity SELECT n, n, 9000 FROM generate_series(1, %s) n"
MARKED = "SELECT node FROM quper.node_details WHERE removed_at IS NOT NULL ORDER BY node"
REMOVED = "SELECT rows_removed FROM quper.sync_logs ORDER BY id DESC LIMIT 1"


def test_a_removed_row_is_marked_until_it_is_read_again(sync: Sync, source: Query, target: Query) -> None:
    source(NODES, [2500])
    assert sync("node_details").success
    assert target(MARKED) == []
    source("DELETE FROM stv_node_storage_capacity WHERE node IN (1, 1700)")
    result = sync("node_details")
    assert target(MARKED) == [(1,), (1700,)] and target(REMOVED) == [(2,)]
    assert target("SELECT count(*) FROM quper.node_details_current") == [(2498,)]
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["rows_removed"].value == 2
    ((since,),) = target("SELECT DISTINCT removed_at FROM quper.node_details WHERE node = 1")
    assert sync("node_details").success
    assert target("SELECT removed_at FROM quper.node_details WHERE node = 1") == [(since,)]
    assert target(REMOVED) == [(0,)]
    source("INSERT INTO stv_node_storage_capacity VALUES (1, 1, 9000)")
    assert sync("node_details").success
    assert target(MARKED) == [(1700,)]
    assert target("SELECT count(*) FROM quper.node_details") == [(2500,)]


def test_an_empty_source_marks_nothing(sync: Sync, source: Query, target: Query) -> None:
    source(NODES, [3])
    assert sync("node_details").success
    source("TRUNCATE stv_node_storage_capacity")
    assert sync("node_details").success
    assert target(MARKED) == []


def test_an_empty_source_of_transient_rows_marks_all_of_its_cluster(
    sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_JOBS", "wlm_rules_sync")
    source("INSERT INTO stv_wlm_qmr_config VALUES (1, 'a', 'log', 'm', '>', 1, ''), (1, 'b', 'log', 'm', '>', 1, '')")
    assert sync("wlm_rules").success
    target(
        "INSERT INTO quper.wlm_rules (cluster, service_class, rule_name, metric_name, metric_operator) "
        "VALUES ('other', 1, 'a', 'm', '>')"
    )
    source("TRUNCATE stv_wlm_qmr_config")
    assert sync("wlm_rules").success and target(REMOVED) == [(2,)]
    assert target("SELECT cluster, rule_name FROM quper.wlm_rules_current") == [("other", "a")]
    source("INSERT INTO stv_wlm_qmr_config VALUES (1, 'a', 'log', 'm', '>', 1, '')")
    assert sync("wlm_rules").success
    assert target("SELECT count(*) FROM quper.wlm_rules_current") == [(2,)]


def test_a_read_with_skipped_rows_marks_nothing(sync: Sync, source: Query, target: Query) -> None:
    source(NODES, [3])
    assert sync("node_details").success
    source("UPDATE stv_node_storage_capacity SET node = NULL WHERE node = 3")
    assert sync("node_details").success
    assert target(MARKED) == []


def test_an_interrupted_read_marks_nothing(
    sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_BATCH_SIZE", "10")
    monkeypatch.setenv("SYNC_MAX_RETRIES", "0")
    source(NODES, [30])
    assert sync("node_details").success
    source(
        "DELETE FROM stv_node_storage_capacity WHERE node < 5; ALTER TABLE stv_node_storage_capacity RENAME TO nodes; "
        "CREATE VIEW stv_node_storage_capacity AS SELECT node, used, capacity / (node - 25) AS capacity FROM nodes; "
        "GRANT SELECT ON stv_node_storage_capacity TO qupersync_reader"
    )
    try:
        assert not sync("node_details").success
    finally:
        source("DROP VIEW stv_node_storage_capacity; ALTER TABLE nodes RENAME TO stv_node_storage_capacity")
    assert target("SELECT rows_extracted FROM quper.sync_logs ORDER BY id DESC LIMIT 1")[0][0] > 0
    assert target(MARKED) == []


def test_an_emptied_table_is_not_marked(sync: Sync, source: Query, target: Query) -> None:
    source(
        'INSERT INTO svv_table_info ("database", "schema", table_id, "table") '
        "VALUES ('d', 's', 1, 'kept'), ('d', 's', 2, 'emptied'), ('d', 's', 3, 'dropped')"
    )
    source(
        "INSERT INTO svv_columns (table_catalog, table_schema, table_name, column_name) "
        "SELECT 'd', 's', name, 'c' FROM unnest(ARRAY['kept', 'emptied', 'dropped']) name; "
        "INSERT INTO pg_namespace VALUES (9, 's'); "
        "INSERT INTO pg_class SELECT n, name, 9, 'r' FROM unnest(ARRAY['kept', 'emptied', 'dropped']) "
        "WITH ORDINALITY AS u (name, n); "
        "INSERT INTO pg_attribute (attrelid, attname, attnum, attisdropped) "
        "SELECT n, 'c', 1, false FROM generate_series(1, 3) n"
    )
    assert sync("table_stats", "column_stats").success
    source("DELETE FROM svv_table_info WHERE table_id > 1; DELETE FROM svv_columns WHERE table_name = 'dropped'")
    assert sync("column_stats").success
    assert sync("table_stats").success
    assert target("SELECT table_name, removed_at IS NULL FROM quper.table_stats ORDER BY table_id") == [
        ("kept", True),
        ("emptied", True),
        ("dropped", False),
    ]


def test_a_history_keeps_rows_that_the_source_deleted(
    sync: Sync, source: Query, target: Query, logged: Callable[..., Any]
) -> None:
    source("INSERT INTO stl_vacuum (xid, table_id, status, eventtime) VALUES (1, 1, 'Finished', getdate())")
    assert sync("vacuum_history").success
    source("TRUNCATE stl_vacuum")
    assert sync("vacuum_history").success
    assert target(
        "SELECT count(*) FROM information_schema.columns "
        "WHERE table_name = 'vacuum_history' AND column_name = 'removed_at'"
    ) == [(0,)]
    assert target("SELECT count(*) FROM quper.vacuum_history") == [(1,)]
