"""A loading process is killed: only whole batches are written; the next run completes them and closes the log row."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets_tests.faults.conftest import NODES, Check, holding, until
from qupersync_assets_tests.support.integration import Materialize, Query

PROJECT = Path(__file__).parents[2]
Logged = Callable[[str], tuple[Any, ...]]


@contextmanager
def loading(table: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that loads the table, with the environment of the test."""
    command = [sys.executable, "-m", "qupersync_assets_tests.support.load_process", table]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def kill(process: subprocess.Popen[bytes]) -> None:
    assert process.poll() is None
    process.kill()
    assert process.wait(30) == -signal.SIGKILL


@pytest.fixture
def held(target: Query) -> Callable[[], int]:
    """Waits until a load waits for a lock; returns its server process."""
    sql = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'qupersync'"
    return lambda: int(until(lambda: target(sql), 40)[0][0])


@pytest.fixture
def session_ended(target: Query) -> Callable[[int], Any]:
    """Waits until that server process has noticed the end of its client, and ended."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    return lambda pid: until(lambda: target(sql, [pid]) == [(0,)])


def test_a_load_killed_within_a_batch_is_completed_by_the_next(
    sandbox: Sandbox,
    tables: None,
    source: Query,
    target: Query,
    logged: Logged,
    held: Callable[[], int],
    session_ended: Callable[[int], Any],
    converges: Check,
) -> None:
    source(NODES, [1, 3500])
    row = "INSERT INTO quper.node_details (cluster, node) VALUES ('sandbox', 2500)"
    with holding(sandbox.connect_quper(), row) as blocker, loading("node_details") as process:
        session = held()
        kill(process)
        assert logged("node_details_sync") == (2000, 2000, 0, 0, 0, 0, 2, "running")
        blocker.rollback()
        session_ended(session)
    assert target("SELECT count(*), max(node) FROM quper.node_details") == [(2000, 2000)]
    converges("node_details")
    assert target(
        "SELECT status, rows_extracted, rows_inserted, batches, completed_at IS NULL, error FROM quper.sync_logs ORDER BY id"
    ) == [
        ("failed", 2000, 2000, 2, False, "the process that loaded this job ended without closing this row"),
        ("success", 3500, 1500, 4, False, None),
    ]


def test_a_load_killed_after_its_last_batch_is_completed_by_the_next(
    sandbox: Sandbox,
    materialize: Materialize,
    source: Query,
    target: Query,
    logged: Logged,
    held: Callable[[], int],
    session_ended: Callable[[int], Any],
    converges: Check,
) -> None:
    source(
        'INSERT INTO svv_table_info ("database", "schema", table_id, "table", tbl_rows, estimated_visible_rows) '
        "VALUES ('d', 's', 1, 't', 10, 10)"
    )
    assert materialize("table_stats").success
    source(
        "INSERT INTO stl_vacuum (xid, table_id, status, eventtime) "
        "SELECT n, 1, 'Finished', timestamp '2026-01-01' + n * interval '1 second' FROM generate_series(1, 1500) n"
    )
    # After the last batch the job updates table_stats, in the transaction that closes the log row.
    rows = "SELECT FROM quper.table_stats FOR UPDATE"
    with holding(sandbox.connect_quper(), rows) as blocker, loading("vacuum_history") as process:
        session = held()
        kill(process)
        blocker.rollback()
        session_ended(session)
    assert target("SELECT last_vacuum_date FROM quper.table_stats") == [(None,)]
    assert logged("vacuum_history_sync") == (1500, 1500, 0, 0, 0, 0, 2, "running")
    converges("vacuum_history")
    assert logged("vacuum_history_sync") == (1500, 0, 0, 1500, 0, 0, 2, "success")
    assert target("SELECT count(last_vacuum_date) FROM quper.table_stats") == [(1,)]
    assert target("SELECT count(*) FROM quper.sync_logs WHERE status = 'running'") == [(0,)]
