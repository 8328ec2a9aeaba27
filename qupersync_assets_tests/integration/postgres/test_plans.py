"""Queries of readers and of the loader use indexes, in the plain spelling `ORDER BY x DESC`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.watermark import earliest_start, plan_window
from qupersync_assets.sync_jobs.query_history import SPEC
from qupersync_assets_tests.support.integration import Query

ROWS = """
INSERT INTO quper.query_history (cluster, query_id, start_time, execution_time_us, status)
SELECT CASE WHEN n % 10 = 0 THEN 'one' ELSE 'two' END, n, now() - (20000 - n) * interval '30 seconds', n * 7919 % 100000,
       CASE WHEN n % 5000 = 0 THEN 'running' WHEN n % 4000 = 7 THEN 'failed' WHEN n % 4000 <> 10 THEN 'success' END
FROM generate_series(1, 20000) n;
ANALYZE quper.query_history
"""
ONE = "cluster = 'one' AND "
SPELLINGS = {
    "true ORDER BY start_time DESC LIMIT 100": "start_time",
    "true ORDER BY start_time DESC NULLS LAST LIMIT 100": None,
    "true ORDER BY execution_time_us DESC LIMIT 50": "all_execution_time_us",
    "status = 'running'": "start_time_query_id",
    "status = 'running' ORDER BY start_time DESC": "start_time_query_id",
    "status NOT IN ('success', 'failed', 'canceled')": "start_time_query_id",
    "status = 'failed' ORDER BY start_time DESC LIMIT 100": "all_status_start_time",
}


def indexes_and_nodes(node: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Return the indexes and the node types of a plan."""
    indexes, nodes = {node.get("Index Name", "")} - {""}, {node["Node Type"]}
    for child in node.get("Plans", ()):
        more = indexes_and_nodes(child)
        indexes, nodes = indexes | more[0], nodes | more[1]
    return indexes, nodes


@pytest.fixture
def queries(postgres: PostgresResource, target: Query) -> None:
    target(ROWS)


@pytest.mark.parametrize("condition", [ONE, ""], ids=["one cluster", "all clusters"])
def test_plain_spellings_use_an_index(queries: None, target: Query, condition: str) -> None:
    for spelling, index in SPELLINGS.items():
        [(plan,)] = target(f"EXPLAIN (FORMAT JSON) SELECT * FROM quper.query_history WHERE {condition}{spelling}")[0]
        indexes, nodes = indexes_and_nodes(plan["Plan"])
        if index == "start_time":
            index = "start_time" if condition else "all_start_time"
        if index is None:
            assert "Sort" in nodes, spelling  # the other direction of NULLs is not served
        else:
            assert indexes == {f"query_history_{index}_idx"}, spelling
            assert "Seq Scan" not in nodes, spelling


def test_the_keys_of_mutable_rows_are_read_from_their_index(
    queries: None, postgres: PostgresResource, target: Query
) -> None:
    target(
        "INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at, read_mode) "
        "VALUES ('one', 'query_history_sync', 'r', 'success', now(), 'full')"
    )
    sent: list[tuple[str, Any]] = []
    sa.event.listen(
        postgres.engine(), "before_cursor_execute", lambda _c, _k, text, parameters, *_: sent.append((text, parameters))
    )
    with postgres.transaction() as connection:
        window = plan_window(connection, SPEC, "one", timedelta(hours=1), False)
        text, parameters = sent[-1]
        cursor: Any = connection.connection.cursor()
        cursor.execute(f"EXPLAIN (FORMAT JSON) {text}", parameters)
        [[plan]] = cursor.fetchall()[0]
    # Rows without a status may change, too; those of the other cluster are not read.
    assert window.mutable_keys == (20000, 16010, 15000, 12010, 10000, 8010, 5000, 4010, 10)
    assert indexes_and_nodes(plan["Plan"])[0] == {"query_history_start_time_query_id_idx"}


def test_the_queries_that_ended_lately_are_read_from_the_index_of_long_ones(
    queries: None, postgres: PostgresResource, target: Query
) -> None:
    target(
        "UPDATE quper.query_history SET end_time = start_time + interval '1 second' WHERE status = 'success';"
        "UPDATE quper.query_history SET end_time = start_time + interval '2 minutes' WHERE query_id % 4 = 0;"
        "UPDATE quper.query_history SET end_time = now() WHERE query_id = 20 AND cluster = 'one';"
        "UPDATE quper.query_history SET end_time = now() WHERE query_id = 19; ANALYZE quper.query_history"
    )
    sent: list[tuple[str, Any]] = []
    sa.event.listen(
        postgres.engine(), "before_cursor_execute", lambda _c, _k, text, parameters, *_: sent.append((text, parameters))
    )
    [(newest, start)] = target(
        "SELECT max(start_time), min(start_time) FILTER (WHERE query_id = 20) FROM quper.query_history WHERE cluster = 'one'"
    )
    with postgres.transaction() as connection:
        assert earliest_start(connection, "one", newest - timedelta(days=3)) == start
        cursor: Any = connection.connection.cursor()
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sent[-1][0]}", sent[-1][1])
        [[plan]] = cursor.fetchall()[0]
    assert indexes_and_nodes(plan["Plan"])[0] == {"query_history_end_time_start_time_idx"}
