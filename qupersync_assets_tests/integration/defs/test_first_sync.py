"""The sensor of the first sync: at once if no sync ever succeeded, and not again soon after a failure."""

from __future__ import annotations

import time
from typing import Any

import dagster as dg
import pytest

from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.sensors import FIRST_SYNC_NAME
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets_tests.support.integration import Query
from qupersync_assets_tests.support.ticks import Ticker
from qupersync_assets_tests.unit.conftest import instance, shared_instance

# An instance with a folder, which a tick needs.
__all__ = ["instance", "shared_instance"]


@pytest.fixture
def ticker(postgres: PostgresResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Ticker:
    monkeypatch.setenv("SYNC_INTERVAL", "86400")
    return Ticker(build_definitions(Settings.load()), instance, FIRST_SYNC_NAME)


def log(target: Query, status: str, ago: str, cluster: str = "sandbox") -> None:
    target(
        "INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at, completed_at) "
        "SELECT %s, 'node_details_sync', md5(random()::text), %s, now() - %s::interval, now() - %s::interval",
        [cluster, status, ago, ago],
    )


def clusters(tick: Any) -> list[str]:
    """The clusters of the requested runs."""
    return [request.tags["qupersync/cluster"] for request in tick.run_requests or []]


def test_a_cluster_is_synced_at_once_until_a_sync_has_succeeded(ticker: Ticker, target: Query) -> None:
    assert clusters(ticker.look(time.time())) == ["sandbox"]
    log(target, "failed", "10 s")
    assert clusters(ticker.look(time.time())) == []  # the schedule follows within its interval
    target("UPDATE quper.sync_logs SET started_at = now() - interval '25 h'")
    assert clusters(ticker.look(time.time())) == ["sandbox"]
    log(target, "success", "1 day")
    log(target, "success", "1 day", cluster="other")
    assert clusters(ticker.look(time.time())) == [] and ticker.cursor == "sandbox"
    target("DROP SCHEMA quper CASCADE")
    # The answer is known from now on, without a query.
    assert "has been synced" in ticker.look(time.time()).skip_message


def test_each_cluster_has_its_own_first_sync(two_clusters: None, ticker: Ticker, target: Query) -> None:
    log(target, "success", "1 h", cluster="north")
    assert clusters(ticker.look(time.time())) == ["south"] and ticker.cursor == "north"


def test_no_sync_starts_while_the_schedule_is_switched_off(
    ticker: Ticker, monkeypatch: pytest.MonkeyPatch, target: Query
) -> None:
    monkeypatch.setattr("qupersync_assets.defs.sensors.is_switched_on", lambda *_, **__: False)
    assert clusters(ticker.look(time.time())) == []
