"""Jobs with intervals of their own: a slow job runs once in its time, and again if it has failed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import JOB_NAME
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets.sync.due import due_jobs
from qupersync_assets_tests.support.integration import Query
from qupersync_assets_tests.support.ticks import Ticker, last_tick
from qupersync_assets_tests.unit.conftest import instance, shared_instance

# An instance with a folder, which a tick needs.
__all__ = ["instance", "shared_instance"]

SLOW, DAILY, FAST = "node_details_sync", "column_stats_sync", "query_history_sync"
AT = datetime(2026, 6, 1, 12, 35, tzinfo=UTC)


@pytest.fixture(autouse=True)
def settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SYNC_JOBS", f"{SLOW},{DAILY},{FAST}")
    monkeypatch.setenv("SYNC_JOB_INTERVALS", f"{SLOW}=3600,{DAILY}=86400")
    return Settings.load()


def due(postgres: PostgresResource, settings: Settings, at: datetime = AT) -> set[str]:
    return {spec.sync_job_id for spec in due_jobs(postgres, settings, "sandbox", at)}


def ran(target: Query, job: str, at: datetime, status: str = "success", cluster: str = "sandbox") -> None:
    target(
        "INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at) "
        "VALUES (%s, %s, gen_random_uuid(), %s, %s)",
        [cluster, job, status, at],
    )


def test_all_jobs_are_due_at_first(bare: PostgresResource, postgres: PostgresResource, settings: Settings) -> None:
    assert due(bare, settings) == due(postgres, settings) == {SLOW, DAILY, FAST}


def test_a_job_is_due_once_in_its_interval(postgres: PostgresResource, settings: Settings, target: Query) -> None:
    ran(target, DAILY, AT - timedelta(hours=2))
    ran(target, SLOW, AT - timedelta(minutes=34, seconds=50))
    ran(target, FAST, AT - timedelta(seconds=20))
    assert due(postgres, settings) == {FAST}
    assert due(postgres, settings, AT + timedelta(minutes=20)) == {FAST}
    # At the next full hour, and from then on until it has run.
    for minutes in (25, 30, 70):
        assert due(postgres, settings, AT + timedelta(minutes=minutes)) == {SLOW, FAST}
    assert due(postgres, settings, AT + timedelta(hours=19)) == {SLOW, DAILY, FAST}


@pytest.mark.parametrize(
    ("status", "is_due"),
    [
        *(("success", False), ("partial", False), ("unavailable", False)),
        *(("failed", True), ("canceled", True), ("skipped", True)),
    ],
)
def test_a_job_that_read_nothing_runs_with_the_next_sync(
    postgres: PostgresResource, settings: Settings, target: Query, status: str, is_due: bool
) -> None:
    ran(target, SLOW, AT - timedelta(minutes=5), status)
    ran(target, SLOW, AT - timedelta(minutes=5), cluster="other")
    assert (SLOW in due(postgres, settings)) == is_due


def test_clocks_may_differ_by_some_seconds(postgres: PostgresResource, settings: Settings, target: Query) -> None:
    hour = AT.replace(minute=0)
    ran(target, SLOW, hour - timedelta(seconds=10))
    assert SLOW not in due(postgres, settings, hour + timedelta(minutes=5))
    assert SLOW in due(postgres, settings, hour + timedelta(hours=1))


def test_a_tick_runs_the_jobs_that_are_due(
    postgres: PostgresResource, instance: dg.DagsterInstance, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_MISFIRE_GRACE", "1000")
    definitions = build_definitions(Settings.load())
    now = last_tick(datetime.now(UTC).timestamp(), 300)

    def request() -> Any:
        [request] = Ticker(definitions, instance).look(now).run_requests
        return request

    assert request().asset_selection is None
    ran(target, DAILY, datetime.fromtimestamp(now, UTC))
    ran(target, SLOW, datetime.fromtimestamp(now, UTC))
    assert request().asset_selection == [dg.AssetKey(["quper", "query_history"])]
    job = definitions.resolve_job_def(JOB_NAME)
    run = job.execute_in_process(instance=instance, asset_selection=request().asset_selection)
    assert run.success
    assert {event.asset_key.path[-1] for event in run.get_asset_materialization_events() if event.asset_key} == {
        "query_history"
    }
    assert {check.asset_key.path[-1] for check in run.get_asset_check_evaluations()} == {"query_history"}
