"""The first page of the UI: its verdict when all is well, with a row that is skipped, and without a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from qupersync_assets.monitoring.status_page import StatusPage, describe, render
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets.sync.dagster_state import DagsterState, Heartbeat
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.integration import Command, Query

RUNNING = DagsterState(True, Heartbeat(True, 1.0, "the daemon's last heartbeat was 1 s ago"), None)
Shown = Callable[..., str]


@pytest.fixture
def shown(environment: dict[str, str], postgres: PostgresResource) -> Shown:
    """Return a function that returns the text of the page."""

    def read(dagster: DagsterState | None = RUNNING) -> str:
        page = render(describe(Settings.load(), postgres, dagster))
        text = re.sub(r"<style>.*?</style>|<wbr>", "", page, flags=re.DOTALL)
        return unescape(" ".join(re.sub(r"<[^>]+>", " ", text).split()))

    return read


def test_without_a_sync_it_waits_for_the_first(shown: Shown) -> None:
    assert "◆ Waiting for the first sync" in shown()


def test_all_is_well_after_a_sync(shown: Shown, filled: object, qupersync: Command) -> None:
    assert qupersync("sync").code == 0
    text = shown()
    number = len(default_specs())
    assert f"✓ All syncs are well {number} of {number} tables are synced without problems." in text
    assert "Last sync: " in text and "Next sync in " in text and "What to fix" not in text
    assert "table_stats success" in text and "Problems of the cluster itself" in text


def test_a_skipped_row_and_a_failed_cluster_are_problems(
    shown: Shown, filled: object, qupersync: Command, source: Query, target: Query
) -> None:
    assert qupersync("sync").code == 0
    source("INSERT INTO redshift.stv_node_storage_capacity (node, used, capacity) VALUES (NULL, 5, 100)")
    assert qupersync("sync", "node_details").code == 1
    text = shown()
    assert "▲ 1 problem" in text
    assert re.search(r"node_details of cluster sandbox: 1 of \d+ rows skipped .*NULL in a key column", text)
    target(
        "UPDATE quper.sync_logs SET status = 'failed', error = 'No <b>connection</b>.' WHERE sync_job_id LIKE 'scan%'"
    )
    assert "▲ 2 problems" in (text := shown())
    assert "table_scan_stats of cluster sandbox: No <b>connection</b>." in text  # escaped


def test_an_outage_is_one_problem_of_all_tables(
    shown: Shown, filled: object, qupersync: Command, target: Query
) -> None:
    assert qupersync("sync").code == 0
    target("UPDATE quper.sync_logs SET status = 'failed', error = 'Redshift is away.'")
    text = shown()
    number = len(default_specs())
    assert "▲ 1 problem" in text and f"{number} tables of cluster sandbox: Redshift is away." in text
    assert f"0 of {number} tables are synced without problems." in text


def test_each_cluster_has_its_own_problems_and_findings(
    shown: Shown, filled: object, two_clusters: None, qupersync: Command, target: Query
) -> None:
    for cluster in ("north", "south"):
        assert qupersync("sync", "--cluster", cluster).code == 0
    target("UPDATE quper.sync_logs SET status = 'failed', error = 'Redshift is away.' WHERE cluster = 'north'")
    target("DELETE FROM quper.health_findings WHERE cluster = 'north'")
    text, number = shown(), len(default_specs())
    assert "▲ 1 problem " in text and f"{number} tables of cluster north: Redshift is away." in text
    assert f"{number} of {2 * number} tables are synced without problems." in text
    assert "north: table_stats failed" in text and "south: table_stats success" in text
    of_north, of_south = text.partition("Health of cluster north")[2].split("Health of cluster south")
    assert "The most urgent" in of_south and "The most urgent" not in of_north
    target(
        "UPDATE quper.health_findings SET cluster = 'north', object = 'of north' WHERE ctid IN ("
        "SELECT min(ctid) FROM quper.health_findings)"
    )
    assert shown().count("of north") == 1
    target("UPDATE quper.sync_logs SET status = 'failed', error = 'Redshift is away.'")
    text = shown()
    assert "▲ 2 problems" in text and f"{number} tables of cluster south: Redshift is away." in text


def test_the_state_of_dagster_is_shown(shown: Shown, filled: object, qupersync: Command) -> None:
    assert qupersync("sync").code == 0
    assert "◆ 1 warning" in (text := shown(None)) and "not known whether the next sync starts" in text
    off = DagsterState(False, RUNNING.heartbeat, None)
    assert "◆ 1 warning" in (text := shown(off)) and "the schedule is switched off" in text.lower()
    queued = DagsterState(True, RUNNING.heartbeat, ("a-run", datetime.now(UTC) - timedelta(hours=1)))
    assert "▲ 1 problem" in (text := shown(queued)) and "Run a-run has been queued" in text


def test_only_the_first_page_is_its_own(
    environment: dict[str, str], postgres: PostgresResource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = TestClient(StatusPage(Starlette()))
    page = client.get("/")
    assert page.status_code == 200 and "Waiting for the first sync" in page.text
    assert "script" not in page.text and page.headers["content-security-policy"].startswith("default-src 'none'")
    assert client.get("/assets").status_code == client.post("/").status_code == 404  # Dagster's application answers
    monkeypatch.setenv("POSTGRES_PORT", "1")
    page = TestClient(StatusPage(Starlette())).get("/")
    assert page.status_code == 200 and "▲ The state of the syncs cannot be read" in page.text
    assert "POSTGRES_PORT" in page.text
