"""Target tables as administrators change them: partitions, row-level security, triggers, no unique index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qupersync_assets.postgres.loader import LoadResult
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets_tests.integration.postgres.test_loader import ListSource, load_list
from qupersync_assets_tests.support.integration import Materialize, Query
from qupersync_assets_tests.support.set_ups import partition

NODES = "SELECT cluster, node, used_mb, removed_at IS NOT NULL FROM quper.node_details ORDER BY 1, 2"
NOW = datetime.now(UTC).replace(microsecond=0)
PARTITIONS = {
    "by cluster": ("LIST (cluster)", "", {"one": "IN ('one')"}),
    "by time": (
        "RANGE (start_time)",
        "cluster, query_id, start_time",
        {"past": f"FROM (MINVALUE) TO ('{NOW - timedelta(hours=2):%Y-%m-%d %H:%M:%S}')"},
    ),
}


def load_nodes(postgres: PostgresResource, cluster: str, *rows: tuple[Any, ...]) -> LoadResult:
    return load_list(postgres, ListSource([rows]), cluster)


def counts(result: LoadResult) -> tuple[int, ...]:
    """Inserted, updated, unchanged, duplicate, skipped and removed rows; they must balance."""
    c = result.counts
    assert c.extracted == c.upserted + c.duplicates + c.skipped
    return c.inserted, c.updated, c.unchanged, c.duplicates, c.skipped, c.removed


def test_a_snapshot_in_partitions_by_cluster(postgres: PostgresResource, target: Query) -> None:
    partition(target, "node_details", "LIST (cluster)", one="IN ('one')")
    for cluster in ("one", "two"):
        assert counts(load_nodes(postgres, cluster, (0, 1, 10), (1, 1, 10), (2, 1, 10))) == (3, 0, 0, 0, 0, 0)
    changed = load_nodes(postgres, "one", (0, 1, 10), (1, 5, 10), (3, 1, 10), (3, 2, 10))
    assert counts(changed) == (1, 1, 1, 1, 0, 1)
    assert target(NODES) == [
        *(("one", 0, 1, False), ("one", 1, 5, False), ("one", 2, 1, True), ("one", 3, 2, False)),
        *(("two", 0, 1, False), ("two", 1, 1, False), ("two", 2, 1, False)),
    ]
    assert target("SELECT count(*) FROM quper.node_details_one") == [(4,)]


@pytest.fixture
def queries(source: Query) -> Callable[..., None]:
    """Replaces the queries of the source, with hours before NOW; the application of each is `text`."""

    def fill(*hours: float, text: str = "a") -> None:
        source("TRUNCATE sys_query_history")
        for number, age in enumerate(hours):
            source(
                "INSERT INTO sys_query_history (user_id, query_id, status, start_time, end_time, query_text) "
                "VALUES (100, %s, 'success', %s, %s, %s)",
                [number, NOW.replace(tzinfo=None) - timedelta(hours=age), NOW.replace(tzinfo=None), text],
            )

    return fill


@pytest.mark.parametrize("kind", PARTITIONS)
def test_a_history_in_partitions(
    materialize: Materialize,
    target: Query,
    queries: Callable[..., None],
    logged: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    postgres: PostgresResource,
    kind: str,
) -> None:
    by, key, bounds = PARTITIONS[kind]
    partition(target, "query_history", by, key=key, **bounds)
    for cluster in ("one", "two"):
        monkeypatch.setenv("CLUSTER_NAME", cluster)
        queries(1, 2.2, 5)
        assert materialize("query_history").success
        assert logged("query_history_sync")[1:6] == (3, 0, 0, 0, 0)
    result = materialize("query_history")
    (event,) = result.get_asset_materialization_events()
    assert ("no unique index" in str(event.materialization.metadata)) == (kind == "by time")
    assert logged("query_history_sync")[1:6] == (0, 0, logged("query_history_sync")[0], 0, 0)
    target("UPDATE quper.sync_logs SET read_mode = NULL")  # read everything again
    queries(1, 1.8, 5, 7, text="b")  # the second one moves into another partition
    assert materialize("query_history").success
    assert logged("query_history_sync")[:6] == (4, 1, 3, 0, 0, 0)
    found = target("SELECT cluster, query_id, query_text, start_time FROM quper.query_history ORDER BY 1, 2")
    one = [("one", n, "a", NOW - timedelta(hours=h)) for n, h in enumerate((1, 2.2, 5))]
    assert found == one + [("two", n, "b", NOW - timedelta(hours=h)) for n, h in enumerate((1, 1.8, 5, 7))]


def test_a_table_without_unique_index_is_merged_by_lookup(postgres: PostgresResource, target: Query) -> None:
    target("ALTER TABLE quper.node_details DROP CONSTRAINT node_details_pkey")
    for cluster in ("one", "two"):
        load_nodes(postgres, cluster, (0, 1, 10), (1, 1, 10))
    result = load_nodes(postgres, "one", (1, 1, 10), (2, 1, 10), (1, 7, 10))
    assert counts(result) == (1, 1, 0, 1, 0, 1)
    assert [row[:3] for row in target(NODES)] == [
        ("one", 0, 1),
        ("one", 1, 7),
        ("one", 2, 1),
        ("two", 0, 1),
        ("two", 1, 1),
    ]


def test_row_level_security_refuses_copy_only(
    materialize: Materialize,
    target: Query,
    queries: Callable[..., None],
    logged: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    postgres: PostgresResource,
) -> None:
    target(
        "ALTER TABLE quper.query_history ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; "
        "CREATE POLICY own ON quper.query_history USING (cluster <> 'three')"
    )
    for cluster in ("one", "two"):
        monkeypatch.setenv("CLUSTER_NAME", cluster)
        queries(1, 2.2, 5)
        result = materialize("query_history")
        (event,) = result.get_asset_materialization_events()
        assert "PostgreSQL refused the direct copy: COPY FROM not supported" in str(event.materialization.metadata)
        assert logged("query_history_sync")[1:6] == (3, 0, 0, 0, 0)
    assert target("SELECT cluster, count(*) FROM quper.query_history GROUP BY 1 ORDER BY 1") == [("one", 3), ("two", 3)]


def add_trigger(target: Query, body: str, when: str = "BEFORE INSERT OR UPDATE", kind: str = "") -> None:
    target(
        f"CREATE FUNCTION quper.act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN new; END $$; "
        f"CREATE {kind} TRIGGER act {when} ON quper.node_details "
        f"{'DEFERRABLE INITIALLY DEFERRED' if kind else ''} FOR EACH ROW EXECUTE FUNCTION quper.act()"
    )


BAD = "IF new.node = 5 AND new.cluster = 'one' THEN {} END IF"
RAISE = BAD.format("RAISE EXCEPTION 'not five' USING ERRCODE = '{}';")
FIRST = [(node, 1, 10) for node in range(8)]
SECOND = [(node, 2, 10) for node in range(8)]


@pytest.mark.parametrize("state", ["P0001", "P0004", "QS001", "45000", "23514"])
@pytest.mark.parametrize(("when", "kind"), [("BEFORE INSERT OR UPDATE", ""), ("AFTER INSERT OR UPDATE", "CONSTRAINT")])
def test_a_trigger_that_raises_for_a_row_costs_this_row(
    postgres: PostgresResource, target: Query, state: str, when: str, kind: str
) -> None:
    add_trigger(target, RAISE.format(state), when, kind)
    result = load_nodes(postgres, "one", *FIRST)
    assert counts(result) == (7, 0, 0, 0, 1, 0)
    assert "not five" in result.samples[0].reason and result.samples[0].row["node"] == 5
    assert counts(load_nodes(postgres, "two", *FIRST)) == (8, 0, 0, 0, 0, 0)
    assert target("SELECT cluster, row->>'node', times_seen FROM quper.skipped_rows") == [("one", "5", 1)]


@pytest.mark.parametrize("known", [False, True])
def test_a_row_that_a_trigger_drops_is_skipped(postgres: PostgresResource, target: Query, known: bool) -> None:
    if known:
        load_nodes(postgres, "one", *FIRST)
    add_trigger(target, BAD.format("RETURN NULL;"))
    result = load_nodes(postgres, "one", *SECOND)
    assert counts(result) == ((0, 7, 0, 0, 1, 0) if known else (7, 0, 0, 0, 1, 0))
    assert "a trigger" in result.samples[0].reason and result.samples[0].row["node"] == 5
    assert counts(load_nodes(postgres, "two", *SECOND)) == (8, 0, 0, 0, 0, 0)
    assert target("SELECT used_mb, removed_at FROM quper.node_details WHERE node = 5 AND cluster = 'one'") == (
        [(1, None)] if known else []
    )
    assert counts(load_nodes(postgres, "one", *SECOND)) == (0, 0, 7, 0, 1, 0)


@pytest.mark.parametrize("when", ["BEFORE INSERT", "BEFORE INSERT OR UPDATE"])
def test_a_row_that_a_trigger_changes_is_stored_once(postgres: PostgresResource, target: Query, when: str) -> None:
    add_trigger(target, "new.used_mb = 99", when)
    assert counts(load_nodes(postgres, "one", *FIRST)) == (8, 0, 0, 0, 0, 0)
    written = target("SELECT node, xmin::text, used_mb FROM quper.node_details ORDER BY 1")
    assert {row[2] for row in written} == {99}
    assert counts(load_nodes(postgres, "one", *SECOND)) == (0, 0, 8, 0, 0, 0)
    assert target("SELECT node, xmin::text, used_mb FROM quper.node_details ORDER BY 1") == written


def test_a_failed_commit_leaves_no_counts_and_no_skipped_rows(postgres: PostgresResource, target: Query) -> None:
    target(
        "CREATE FUNCTION quper.act() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'at commit' USING ERRCODE = '42000'; END $$; "
        "CREATE CONSTRAINT TRIGGER act AFTER INSERT ON quper.node_details DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW WHEN (new.node = 9 AND new.cluster = 'one') EXECUTE FUNCTION quper.act()"
    )
    pages: Sequence[Any] = [[(0, 1, 10), ("x", 1, 10)], [(9, 1, 10), ("y", 1, 10)]]
    with pytest.raises(Exception, match="at commit"):
        load_list(postgres, ListSource(pages))
    log = "SELECT status, rows_extracted, rows_inserted, rows_skipped, batches FROM quper.sync_logs WHERE cluster = %s"
    assert target(log, ["one"]) == [("failed", 2, 1, 1, 1)]
    assert target("SELECT row->>'node' FROM quper.skipped_rows") == [("x",)]
    assert target("SELECT node FROM quper.node_details") == [(0,)]
    load_list(postgres, ListSource(pages), "two")
    assert target(log, ["two"]) == [("success", 4, 2, 2, 2)]


def test_rows_whose_skipped_rows_cannot_be_recorded_are_not_stored(postgres: PostgresResource, target: Query) -> None:
    target(
        "CREATE FUNCTION quper.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'not recorded' USING ERRCODE = '42000'; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON quper.skipped_rows FOR EACH ROW EXECUTE FUNCTION quper.refuse()"
    )
    with pytest.raises(Exception, match="not recorded"):
        load_list(postgres, ListSource([[(0, 1, 10)], [(1, 1, 10), ("x", 1, 10)]]))
    assert target("SELECT node FROM quper.node_details") == [(0,)]
    assert target("SELECT status, rows_extracted, rows_inserted, batches FROM quper.sync_logs") == [("failed", 1, 1, 1)]
