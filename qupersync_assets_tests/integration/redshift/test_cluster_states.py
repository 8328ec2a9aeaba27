"""States of a cluster that pass are retried; a result over the cursor limit is read in slices; names stay lower case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redshift_connector

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.rules.strict import Refusal
from qupersync_assets_tests.support.integration import Command, Materialize, Query, Sync

QUERIES = """INSERT INTO sys_query_history (user_id, query_id, status, start_time, query_text)
    SELECT 100, n, 'success', date_trunc('second', getdate()) - n * interval '2 hours', repeat(chr(65 + n % 20), 900)
    FROM generate_series(1, 80) n"""


@pytest.fixture(autouse=True)
def usual_state(sandbox: Sandbox) -> Iterator[None]:
    yield
    sandbox.gateway.refuse = lambda statement: None
    sandbox.gateway.cursor_limit = None
    sandbox.gateway.uppercase_names = False


def refusing(sandbox: Sandbox, message: str, times: int) -> list[str]:
    """Refuse the next FETCHes with an internal error; return the list of those that were refused."""
    refused: list[str] = []

    def refuse(statement: str) -> Refusal | None:
        if not statement.startswith("FETCH") or len(refused) == times:
            return None
        refused.append(statement)
        return Refusal("XX000", message)

    sandbox.gateway.refuse = refuse
    return refused


@pytest.mark.parametrize("message", ["could not open relation with OID 4711", "1023"])
def test_an_internal_error_that_passes_is_retried(
    sandbox: Sandbox,
    materialize: Materialize,
    source: Query,
    logged: Callable[..., Any],
    target: Query,
    capfd: Any,
    message: str,
) -> None:
    source(QUERIES)
    refused = refusing(sandbox, message, times=1)
    assert materialize("query_history").success
    assert len(refused) == 1 and target("SELECT attempts FROM quper.sync_logs") == [(2,)]
    assert f"{message} (SQLSTATE XX000)" in capfd.readouterr().err
    assert logged("query_history_sync")[:2] == (80, 80)


def test_another_internal_error_fails_the_job(sandbox: Sandbox, sync: Sync, source: Query, target: Query) -> None:
    source(QUERIES)
    refused = refusing(sandbox, "Assert: the disk is on fire", times=99)
    assert not sync("query_history").success
    [(status, attempts, error)] = target("SELECT status, attempts, error FROM quper.sync_logs")
    assert refused and (status, attempts) == ("failed", 1) and "the disk is on fire (SQLSTATE XX000)" in error


def test_a_result_over_the_cursor_limit_is_read_in_slices(
    sandbox: Sandbox, sync: Sync, source: Query, target: Query, logged: Callable[..., Any]
) -> None:
    source(QUERIES)
    source("UPDATE sys_query_history SET start_time = NULL WHERE query_id = 80")
    sandbox.gateway.cursor_limit = 30_000
    fetched: list[str] = []
    sandbox.gateway.refuse = lambda statement: fetched.append(statement) if statement.startswith("DECLARE") else None
    assert sync("query_history").success
    slices = [statement for statement in fetched if "AS whole WHERE" in statement]
    oldest = '"start_time" IS NULL'
    assert len(slices) >= 4 and oldest in slices[0] and oldest not in slices[-1]
    assert target("SELECT count(*), count(DISTINCT query_id) FROM quper.query_history") == [(80, 80)]
    assert logged("query_history_sync")[:2] == (80, 80)


def test_a_row_over_the_cursor_limit_is_an_error(sandbox: Sandbox, sync: Sync, source: Query, target: Query) -> None:
    source(QUERIES)
    sandbox.gateway.cursor_limit = 100
    assert not sync("query_history").success
    [(error,)] = target("SELECT error FROM quper.sync_logs")
    assert "cursor data" in error


def test_a_snapshot_over_the_cursor_limit_says_what_to_do(
    sandbox: Sandbox, sync: Sync, source: Query, target: Query
) -> None:
    source("INSERT INTO stv_node_storage_capacity SELECT n, n, 9000 FROM generate_series(1, 50) n")
    sandbox.gateway.cursor_limit = 500
    assert not sync("node_details").success
    [(error,)] = target("SELECT error FROM quper.sync_logs")
    assert "cursor data" in error and "larger nodes" in error


def test_names_in_capitals_change_nothing(
    sandbox: Sandbox, environment: dict[str, str], sync: Sync, source: Query, target: Query, qupersync: Command
) -> None:
    source(QUERIES)
    sandbox.gateway.uppercase_names = True
    login: dict[str, Any] = {
        name: environment[f"REDSHIFT_{name.upper()}"] for name in ("host", "database", "user", "password")
    }
    with redshift_connector.connect(**login, port=int(environment["REDSHIFT_PORT"]), ssl=False) as driver:
        cursor = driver.cursor()
        assert cursor.execute("SELECT 1 AS one").description[0][0] == "ONE"  # the gateway plays it
        cursor.execute("SET describe_field_name_in_uppercase TO off")
        assert cursor.execute("SELECT 2 AS one").description[0][0] == "one"
    assert sync("query_history", "table_stats").success
    assert target("SELECT count(*) FROM quper.query_history") == [(80,)]
    shown = str(qupersync("doctor", "--json").json)
    assert "describe_field_name_in_uppercase off" in shown and "timezone UTC" in shown
