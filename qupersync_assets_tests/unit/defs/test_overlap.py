"""Ticks of the schedule and of the interval sensor: one sync at a time, and no late ones."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.execution.plan.objects import StepSuccessData
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from qupersync_assets.defs import schedules
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.ticks import JOB, Clock, Ticker, last_tick
from qupersync_assets_tests.unit.conftest import Build, Load

Status = dg.DagsterRunStatus
# Of the default settings: 60 s, and 5 s doubled three times.
MAX_SILENCE = 100
# A run with such a status depends on its process.
WITH_A_PROCESS = [Status.NOT_STARTED, Status.STARTING, Status.STARTED, Status.CANCELING]


@pytest.fixture(params=[300, 420, 430], ids=["cron", "minutes", "sensor"])
def ticker(request: pytest.FixtureRequest, build: Build, instance: dg.DagsterInstance, clock: Clock) -> Ticker:
    """A ticker that was due a second ago."""
    ticker = Ticker(build(SYNC_INTERVAL=str(request.param), SYNC_MISFIRE_GRACE="1000"), instance)
    ticker.interval = request.param
    # In the past: the events of runs that a test creates have the real time, and are not old.
    clock.now = last_tick(clock.now, request.param) + 1.0
    return ticker


def sync_run(instance: dg.DagsterInstance, status: Status, **more: Any) -> str:
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("qupersync"), "repository")
    origin = RemoteJobOrigin(location, JOB)
    values: dict[str, Any] = {"job_name": JOB, "status": status, "remote_job_origin": origin} | more
    return create_run_for_test(instance, **values).run_id


def test_a_tick_starts_one_run_of_all_jobs(ticker: Ticker, clock: Clock) -> None:
    [request] = ticker.look(clock.now - 1).run_requests
    assert request.run_key
    assert request.asset_selection is None
    assert request.tags["qupersync/cluster"] == "default"
    assert request.tags["qupersync/trigger"] == ("sensor" if ticker.interval == 430 else "schedule")


@pytest.mark.parametrize("status", [Status.QUEUED, *WITH_A_PROCESS])
def test_a_tick_is_skipped_while_a_sync_is_unfinished(ticker: Ticker, clock: Clock, status: Status) -> None:
    run_id = sync_run(ticker.instance, status)
    tick = ticker.look(clock.now - 1)
    assert not tick.run_requests
    assert run_id in tick.skip_message and status.value in tick.skip_message


def test_a_manual_run_of_one_asset_blocks_the_tick(ticker: Ticker, clock: Clock) -> None:
    assets = frozenset({dg.AssetKey(["quper", "node_details"])})
    run_id = sync_run(ticker.instance, Status.STARTED, job_name="__ASSET_JOB", asset_selection=assets)
    assert run_id in ticker.look(clock.now - 1).skip_message


def test_a_run_of_a_single_job_blocks_the_tick(ticker: Ticker, clock: Clock) -> None:
    run_id = sync_run(ticker.instance, Status.STARTED, job_name="node_details_sync")
    assert run_id in ticker.look(clock.now - 1).skip_message


@pytest.mark.parametrize(
    "run",
    [
        {"job_name": "another"},
        {"job_name": "__ASSET_JOB", "asset_selection": frozenset({dg.AssetKey("another")})},
        {"status": Status.SUCCESS},
        {"status": Status.FAILURE},
        {"status": Status.CANCELED},
    ],
    ids=str,
)
def test_other_and_finished_runs_do_not_block_the_tick(ticker: Ticker, clock: Clock, run: dict[str, Any]) -> None:
    sync_run(ticker.instance, **({"status": Status.STARTED} | run))
    assert len(ticker.look(clock.now - 1).run_requests) == 1


def test_a_job_that_hangs_does_not_stop_the_others(
    ticker: Ticker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = sync_run(ticker.instance, Status.STARTED)

    def report(kind: dg.DagsterEventType, **values: Any) -> None:
        ticker.instance.report_dagster_event(dg.DagsterEvent(kind.value, JOB, **values), run_id)

    report(dg.DagsterEventType.RUN_START)
    tables = [spec.table.name for spec in default_specs()]
    for table in tables:
        planned = AssetMaterializationPlannedData(dg.AssetKey(["quper", table]))
        report(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, event_specific_data=planned)
    for table in tables[1:]:
        report(dg.DagsterEventType.STEP_SUCCESS, step_key=f"quper__{table}", event_specific_data=StepSuccessData(1.0))
    monkeypatch.setattr(schedules, "dead_runs", lambda *_: [])  # it holds the lock of its job
    clock.now = time.time() + ticker.interval
    assert run_id in ticker.look(last_tick(clock.now, ticker.interval)).skip_message
    clock.now = time.time() + 4 * ticker.interval
    [request] = ticker.look(last_tick(clock.now, ticker.interval)).run_requests
    assert {key.path[-1] for key in request.asset_selection} == set(tables[1:])


def test_a_queued_run_blocks_the_tick_for_any_time(ticker: Ticker, clock: Clock) -> None:
    run_id = sync_run(ticker.instance, Status.QUEUED)
    clock.now += 20 * ticker.interval
    assert run_id in ticker.look(clock.now - 1).skip_message


@pytest.mark.parametrize("status", WITH_A_PROCESS)
def test_a_run_that_is_not_silent_for_long_blocks_the_tick(ticker: Ticker, clock: Clock, status: Status) -> None:
    run_id = sync_run(ticker.instance, status)
    clock.now = time.time() + MAX_SILENCE - 5
    assert run_id in ticker.look(last_tick(clock.now, ticker.interval)).skip_message


@pytest.mark.parametrize("status", WITH_A_PROCESS)
def test_a_run_of_a_launcher_with_a_health_check_is_never_dead(
    ticker: Ticker, clock: Clock, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = type(ticker.instance.run_launcher)
    monkeypatch.setattr(launcher, "supports_check_run_worker_health", True)
    run_id = sync_run(ticker.instance, status)
    clock.now += 20 * ticker.interval
    assert run_id in ticker.look(clock.now - 1).skip_message


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, MAX_SILENCE),
        ({"SYNC_MAX_RETRIES": "0"}, 60),
        ({"SYNC_MAX_RETRIES": "1", "SYNC_RETRY_DELAY": "30"}, 120),
        ({"SYNC_EXECUTOR": "celery", "CELERY_BROKER_URL": "redis://redis", "CELERY_STEP_TIMEOUT": "600"}, 700),
    ],
)
def test_a_run_may_be_silent_while_it_starts_and_waits(load: Load, variables: dict[str, str], seconds: float) -> None:
    settings = load(**variables)
    assert settings.max_silence == seconds
    delays = dg.RetryPolicy(
        max_retries=settings.sync_max_retries, delay=settings.sync_retry_delay, backoff=dg.Backoff.EXPONENTIAL
    )
    retries = range(1, settings.sync_max_retries + 1)
    longest = max((delays.calculate_delay(attempt) for attempt in retries), default=0)
    # Dagster's jitter adds at most the first delay.
    assert settings.max_silence >= 60 + longest + (settings.sync_retry_delay if longest else 0)


@pytest.mark.parametrize(("late", "starts"), [(0, True), (29, True), (31, False), (200, False)])
@pytest.mark.parametrize("interval", ["300", "420", "430"])
def test_a_tick_later_than_the_grace_is_skipped(
    build: Build, instance: dg.DagsterInstance, clock: Clock, interval: str, late: int, starts: bool
) -> None:
    ticker = Ticker(build(SYNC_INTERVAL=interval, SYNC_MISFIRE_GRACE="30"), instance)
    due = last_tick(6000 * 2100.0, int(interval))
    clock.now = due + late
    tick = ticker.look(due)
    assert len(tick.run_requests or []) == starts
    if not starts:
        assert f"{late} s late" in tick.skip_message and "SYNC_MISFIRE_GRACE" in tick.skip_message
        assert f"{datetime.fromtimestamp(due, UTC):%H:%M:%S}" in tick.skip_message
