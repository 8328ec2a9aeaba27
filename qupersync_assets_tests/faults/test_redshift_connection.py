"""Failures of the connection to Redshift: no row is lost or invented, transient errors are retried."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway import session
from qupersync_assets_tests.faults.conftest import NODES, Check, SetFault, holding, meanwhile, until
from qupersync_assets_tests.support.integration import Materialize, Query

# The answer to a FETCH: BindComplete (5 bytes), then for each row of node_details a message of type D: type (1
# byte), length (4), number of columns (2), and each column's length (4) and value.
BETWEEN, TYPE, LENGTH, COLUMN_LENGTH = 0, 5, 6, 12
MID_PAGE = 7_000  # in the middle of a row


@pytest.fixture(autouse=True)
def nodes(source: Query) -> None:
    source(NODES, [1, 2500])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time out after two seconds without data from Redshift."""
    monkeypatch.setenv("REDSHIFT_STATEMENT_TIMEOUT", "1")
    monkeypatch.setattr("qupersync_assets.redshift.resource._EXTRA_SECONDS", 1)


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("cut", {"after": MID_PAGE}),
    ("cut", {"after": BETWEEN}),
    ("truncate", {"after": MID_PAGE}),
    ("truncate", {"after": LENGTH + 1}),
    ("stall", {"after": MID_PAGE}),
    ("corrupt", {"after": TYPE}),
    ("corrupt", {"after": LENGTH + 3, "flip": 0x01}),
    ("corrupt", {"after": LENGTH, "flip": 0x80}),
    ("corrupt", {"after": COLUMN_LENGTH + 1}),
]


@pytest.mark.parametrize(("action", "settings"), FAULTS, ids=str)
def test_an_interrupted_page_is_read_again(
    fault: SetFault,
    impatient: None,
    materialize: Materialize,
    target: Query,
    logged: Callable[..., Any],
    converges: Check,
    action: str,
    settings: dict[str, Any],
) -> None:
    injected = fault(action, "FETCH", nth=2, **settings)
    assert materialize("node_details").success
    assert injected.fired == 1
    # The first page had been committed; the second attempt finds its rows there.
    assert logged("node_details_sync") == (2500, 1500, 0, 1000, 0, 0, 3, "success")
    assert target("SELECT attempts FROM quper.sync_logs") == [(2,)]
    converges("node_details")


@pytest.mark.parametrize(("action", "settings"), [FAULTS[0], FAULTS[5]], ids=str)
def test_a_connection_that_always_breaks_is_an_error(
    fault: SetFault,
    materialize: Materialize,
    target: Query,
    logged: Callable[..., Any],
    sound: Check,
    converges: Check,
    action: str,
    settings: dict[str, Any],
) -> None:
    injected = fault(action, "FETCH", nth=2, times=None, **settings)
    assert not materialize("node_details").success
    assert injected.fired == 2
    # Whole pages only: the incomplete page is discarded.
    assert logged("node_details_sync") == (1000, 0, 0, 1000, 0, 0, 1, "failed")
    assert target("SELECT count(*), max(node), min(used_mb / node), max(used_mb / node) FROM quper.node_details") == [
        (1000, 1000, 7, 7)
    ]
    ((error, attempts),) = target("SELECT error, attempts FROM quper.sync_logs")
    assert "Reading from Redshift failed" in error and attempts == 2
    sound()
    converges("node_details")


def test_a_slow_connection_is_not_an_error(
    fault: SetFault, impatient: None, materialize: Materialize, target: Query, converges: Check
) -> None:
    slow = fault("slow", "FETCH", nth=2, after=MID_PAGE, rate=60_000)
    assert materialize("node_details").success
    assert slow.fired == 1
    assert target("SELECT attempts, rows_inserted FROM quper.sync_logs") == [(1, 2500)]
    converges("node_details")


@pytest.mark.parametrize("action", ["truncate", "stall"])
def test_an_interrupted_login_is_retried(
    fault: SetFault, impatient: None, materialize: Materialize, target: Query, converges: Check, action: str
) -> None:
    injected = fault(action, after=30)  # within the challenge of the login
    assert materialize("node_details").success
    assert injected.fired == 1
    assert target("SELECT attempts, rows_inserted FROM quper.sync_logs") == [(2, 2500)]
    converges("node_details")


def test_a_refused_connection_is_retried(
    sandbox: Sandbox,
    tables: None,
    materialize: Materialize,
    target: Query,
    monkeypatch: pytest.MonkeyPatch,
    converges: Check,
) -> None:
    monkeypatch.setenv("SYNC_RETRY_DELAY", "1")
    sandbox.gateway.stop()

    def open_again() -> None:
        try:
            seen.extend(until(lambda: target("SELECT error, status FROM quper.sync_logs WHERE error IS NOT NULL")))
        finally:
            sandbox.gateway.start()

    seen: list[Any] = []
    with meanwhile(open_again):
        assert materialize("node_details").success
    text, status = seen[0]
    # "failed" is what the row says only if no attempt follows.
    assert status == "running" and re.fullmatch(
        r"attempt 1 of 2 failed: .*Connection refused.* REDSHIFT_PORT; next attempt in \d s", text
    )
    assert target(
        "SELECT attempts, rows_inserted, error FROM quper.sync_logs WHERE sync_job_id = 'node_details_sync'"
    ) == [(2, 2500, None)]
    converges("node_details")


def test_a_refused_login_is_not_retried(
    sandbox: Sandbox, materialize: Materialize, source: Query, target: Query, sound: Check, converges: Check
) -> None:
    # Redshift locks a user after five failed logins.
    source("ALTER ROLE qupersync_reader NOLOGIN")
    before = sandbox.gateway.received.startups
    try:
        assert not materialize("node_details").success
    finally:
        source("ALTER ROLE qupersync_reader LOGIN")
    assert sandbox.gateway.received.startups == before + 1
    ((error, attempts),) = target("SELECT error, attempts FROM quper.sync_logs")
    assert "28000" in error and attempts == 1
    sound()
    converges("node_details")


@pytest.fixture
def short_fetches(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let Redshift return fewer rows than requested, although there are more."""
    rewritten, seen = session.rewritten, []

    def shorter(statement: str) -> str:
        seen.extend([statement] if "FETCH FORWARD 1000" in statement else [])
        return rewritten(statement).replace("FETCH FORWARD 1000", "FETCH FORWARD 700")

    monkeypatch.setattr(session, "rewritten", shorter)
    return seen


def test_a_short_page_is_not_the_last(
    short_fetches: list[str], materialize: Materialize, logged: Callable[..., Any], converges: Check
) -> None:
    assert materialize("node_details").success
    assert short_fetches
    assert logged("node_details_sync") == (2500, 2500, 0, 0, 0, 0, 4, "success")
    converges("node_details")


@pytest.fixture
def page_blocker(tables: None, sandbox: Sandbox) -> Iterator[Any]:
    """A session that blocks the page with row 2400 until its transaction ends."""
    row = "INSERT INTO quper.node_details (cluster, node) VALUES ('sandbox', 2400)"
    with holding(sandbox.connect_quper(), row) as blocker:
        yield blocker


def test_a_read_is_a_snapshot_of_a_changing_source(
    page_blocker: Any,
    materialize: Materialize,
    source: Query,
    target: Query,
    monkeypatch: pytest.MonkeyPatch,
    converges: Check,
) -> None:
    def change() -> None:
        try:
            until(lambda: target("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
            source("UPDATE stv_node_storage_capacity SET used = 0 WHERE node IN (1, 1500, 11500)")
            source(NODES, [12001, 12100])
        finally:
            page_blocker.rollback()

    source(NODES, [2501, 12000])
    monkeypatch.setenv("SYNC_BATCH_SIZE", "1200")  # at that time the second page is read, the last ones are not
    with meanwhile(change):
        assert materialize("node_details").success
    assert target("SELECT count(*), count(*) FILTER (WHERE used_mb = 7 * node) FROM quper.node_details") == [
        (12000, 12000)
    ]
    converges("node_details")
