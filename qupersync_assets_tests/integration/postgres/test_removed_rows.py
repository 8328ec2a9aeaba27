"""Rows that a complete read of a snapshot does not find are marked as removed, until they are found again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from qupersync_assets.postgres.loader import LoadResult
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sync_jobs.column_stats import SPEC as COLUMNS_SPEC
from qupersync_assets_tests.integration.postgres.test_loader import ListSource, load_list
from qupersync_assets_tests.support.integration import Materialize, Query, Sync, checks

NODES = "INSERT INTO stv_node_storage_capacity SELECT n, n, 9000 FROM generate_series(1, %s) n"
MARKED = "SELECT node FROM quper.node_details WHERE removed_at IS NOT NULL ORDER BY node"
UNDECIDED = "SELECT rows_undecided FROM quper.sync_logs ORDER BY id DESC LIMIT 1"
COLUMN_KEY = [c.name for c in COLUMNS_SPEC.source_key]
REMOVED = "SELECT rows_removed FROM quper.sync_logs ORDER BY id DESC LIMIT 1"


def test_a_removed_row_is_marked_until_it_is_read_again(materialize: Materialize, source: Query, target: Query) -> None:
    source(NODES, [2500])
    assert materialize("node_details").success
    assert target(MARKED) == []
    source("DELETE FROM stv_node_storage_capacity WHERE node IN (1, 1700)")
    result = materialize("node_details")
    assert target(MARKED) == [(1,), (1700,)] and target(REMOVED) == [(2,)]
    assert target("SELECT count(*) FROM quper.node_details_current") == [(2498,)]
    (event,) = result.get_asset_materialization_events()
    counts: dict[str, int] = event.materialization.metadata["counts"].value  # type: ignore[assignment]
    assert counts["rows_removed"] == 2
    ((since,),) = target("SELECT DISTINCT removed_at FROM quper.node_details WHERE node = 1")
    assert materialize("node_details").success
    assert target("SELECT removed_at FROM quper.node_details WHERE node = 1") == [(since,)]
    assert target(REMOVED) == [(0,)]
    source("INSERT INTO stv_node_storage_capacity VALUES (1, 1, 9000)")
    assert materialize("node_details").success
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


def test_a_skipped_row_with_a_known_key_stops_no_removal(
    materialize: Materialize, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(NODES, [4])
    for cluster in ("other", "sandbox"):
        monkeypatch.setenv("CLUSTER_NAME", cluster)
        assert materialize("node_details").success
    target("ALTER TABLE quper.node_details ADD CHECK (node <> 3 OR used_mb < 4)")  # refused by PostgreSQL
    source("ALTER TABLE stv_node_storage_capacity ALTER capacity TYPE numeric(30)")
    try:
        source("DELETE FROM stv_node_storage_capacity WHERE node = 1")
        source("UPDATE stv_node_storage_capacity SET used = 5 WHERE node = 3")
        source("UPDATE stv_node_storage_capacity SET capacity = 1e29 WHERE node = 4")  # refused by `transform`
        result = materialize("node_details")
    finally:
        source("TRUNCATE stv_node_storage_capacity; ALTER TABLE stv_node_storage_capacity ALTER capacity TYPE integer")
    assert target("SELECT row->>'node' FROM quper.skipped_rows ORDER BY 1") == [("3",), ("4",)]
    assert target("SELECT cluster, node FROM quper.node_details WHERE removed_at IS NOT NULL") == [("sandbox", 1)]
    assert target(UNDECIDED) == [(0,)] and checks(result, "finds_removed_rows")["node_details"].passed


def test_a_row_with_an_unknown_key_leaves_removals_undecided_and_a_check_says_so(
    materialize: Materialize, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(NODES, [3])
    for cluster in ("other", "sandbox"):
        monkeypatch.setenv("CLUSTER_NAME", cluster)
        assert materialize("node_details").success
    source("UPDATE stv_node_storage_capacity SET node = NULL WHERE node = 3")
    for expected in (True, True, False):
        result = materialize("node_details")
        assert target(MARKED) == [] and target(UNDECIDED) == [(1,)]
        check = checks(result, "finds_removed_rows")["node_details"]
        assert check.passed is expected
    assert check.severity.value == "WARN" and "whether 1 rows still exist" in (check.description or "")
    source("UPDATE stv_node_storage_capacity SET node = 2 WHERE node IS NULL")
    assert checks(materialize("node_details"), "finds_removed_rows")["node_details"].passed
    assert target("SELECT cluster, node FROM quper.node_details WHERE removed_at IS NOT NULL") == [("sandbox", 3)]


def test_only_rows_that_may_be_those_with_an_unknown_key_are_undecided(
    postgres: PostgresResource, target: Query
) -> None:
    names = tuple(c.name for c in COLUMNS_SPEC.columns)

    def load_columns(cluster: str, *keys: tuple[object, ...]) -> LoadResult:
        rows = [[dict(zip(COLUMN_KEY, key, strict=True)).get(name) for name in names] for key in keys]
        return load_list(postgres, ListSource([rows], names), cluster, COLUMNS_SPEC)

    known = [("d", "s", table, column) for table in ("a", "b") for column in ("x", "y")]
    for cluster in ("one", "two"):
        load_columns(cluster, *known)
    result = load_columns("one", known[0], ("d", "s", "b", None))
    assert (result.counts.removed, result.counts.undecided, result.counts.skipped) == (1, 2, 1)
    marked = "SELECT cluster, table_name, column_name FROM quper.column_stats WHERE removed_at IS NOT NULL"
    assert target(marked) == [("one", "a", "y")]


def test_a_replaced_session_marks_nothing(
    sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qupersync_assets.postgres.batch_writer.RETRY_SECONDS", 0.1)
    monkeypatch.setenv("SYNC_BATCH_SIZE", "10")
    source(NODES, [40])
    for cluster in ("other", "sandbox"):
        monkeypatch.setenv("CLUSTER_NAME", cluster)
        assert sync("node_details").success
    source("DELETE FROM stv_node_storage_capacity WHERE node = 40; UPDATE stv_node_storage_capacity SET used = 7")
    merges: list[int] = []

    def kill(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if "merged" in statement:
            merges.append(connection.connection.dbapi_connection.get_backend_pid())
            if len(merges) == 2:
                assert target("SELECT pg_terminate_backend(%s, 5000)", [merges[-1]]) == [(True,)]

    sa.event.listen(sa.Engine, "after_cursor_execute", kill)
    try:
        assert sync("node_details").success
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", kill)
    assert len(merges) == 5 and len(set(merges)) == 2  # the second batch again, in a new session
    assert target(MARKED) == [] and target(UNDECIDED)[0][0] > 1
    assert target("SELECT rows_extracted, rows_upserted FROM quper.sync_logs ORDER BY id DESC LIMIT 1") == [(39, 39)]
    assert sync("node_details").success
    assert target("SELECT cluster, node FROM quper.node_details WHERE removed_at IS NOT NULL") == [("sandbox", 40)]


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
    # Another cluster still has the table.
    target(
        "INSERT INTO quper.column_stats (cluster, table_catalog, table_schema, table_name, column_name, table_id) "
        "VALUES ('other', 'd', 's', 'dropped', 'c', 3)"
    )
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
