"""One sync at a time, and none late: what a tick does, be it the schedule's or the interval sensor's."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test

from qupersync_assets_tests.support.ticks import JOB, Clock, Ticker
from qupersync_assets_tests.unit.conftest import Build

Status = dg.DagsterRunStatus
# In these a run depends on its process, which may have died.
WITH_A_PROCESS = [Status.NOT_STARTED, Status.STARTING, Status.STARTED, Status.CANCELING]


@pytest.fixture(params=[300, 420], ids=["schedule", "sensor"])
def ticker(
    request: pytest.FixtureRequest, build: Build, instance: dg.DagsterInstance, clock: Clock
) -> Ticker:
    """A ticker that was due a second ago."""
    ticker = Ticker(build(SYNC_INTERVAL=str(request.param)), instance)
    ticker.interval = request.param
    # Within an interval from the present, which the records of new runs carry.
    clock.now = (clock.now // request.param + 1) * request.param + 1.0
    return ticker


def sync_run(instance: dg.DagsterInstance, status: Status, **more: Any) -> str:
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("qupersync"), "repository")
    origin = RemoteJobOrigin(location, JOB)
    values: dict[str, Any] = {"job_name": JOB, "status": status, "remote_job_origin": origin} | more
    return create_run_for_test(instance, **values).run_id


def test_a_tick_in_time_asks_for_one_run_of_the_whole_job(ticker: Ticker, clock: Clock) -> None:
    [request] = ticker.look(clock.now - 1).run_requests
    assert request.run_key
    assert request.asset_selection is None
    assert request.tags["qupersync/cluster"] == "default"
    assert request.tags["qupersync/trigger"] == ("schedule" if ticker.interval == 300 else "sensor")


@pytest.mark.parametrize("status", [Status.QUEUED, *WITH_A_PROCESS])
def test_a_tick_is_skipped_while_a_sync_is_queued_or_going(
    ticker: Ticker, clock: Clock, status: Status
) -> None:
    run_id = sync_run(ticker.instance, status)
    tick = ticker.look(clock.now - 1)
    assert not tick.run_requests
    assert run_id in tick.skip_message and status.value in tick.skip_message


def test_a_manual_run_of_one_asset_counts(ticker: Ticker, clock: Clock) -> None:
    assets = frozenset({dg.AssetKey(["quper", "node_details"])})
    run_id = sync_run(ticker.instance, Status.STARTED, job_name="__ASSET_JOB", asset_selection=assets)
    assert run_id in ticker.look(clock.now - 1).skip_message


def test_a_run_of_the_job_of_one_asset_counts(ticker: Ticker, clock: Clock) -> None:
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
def test_other_and_ended_runs_do_not_count(ticker: Ticker, clock: Clock, run: dict[str, Any]) -> None:
    sync_run(ticker.instance, **({"status": Status.STARTED} | run))
    assert len(ticker.look(clock.now - 1).run_requests) == 1


@pytest.mark.parametrize("status", WITH_A_PROCESS)
def test_a_run_that_went_silent_holds_nothing_up_after_two_intervals(
    ticker: Ticker, clock: Clock, status: Status
) -> None:
    sync_run(ticker.instance, status)
    clock.now += 2 * ticker.interval
    assert len(ticker.look(clock.now - 1).run_requests) == 1


def test_a_queued_run_is_waited_for_however_long(ticker: Ticker, clock: Clock) -> None:
    run_id = sync_run(ticker.instance, Status.QUEUED)
    clock.now += 20 * ticker.interval
    assert run_id in ticker.look(clock.now - 1).skip_message


def test_a_run_whose_code_server_is_gone_holds_nothing_up(
    ticker: Ticker, clock: Clock, tmp_path: Path
) -> None:
    server = {"host": "localhost", "socket": str(tmp_path / "gone")}
    sync_run(ticker.instance, Status.STARTED, tags={GRPC_INFO_TAG: json.dumps(server)})
    assert len(ticker.look(clock.now - 1).run_requests) == 1


def test_a_code_server_of_another_machine_that_is_out_of_reach_proves_nothing(
    ticker: Ticker, clock: Clock
) -> None:
    server = {"host": "127.0.0.1", "port": 1}
    run_id = sync_run(ticker.instance, Status.STARTED, tags={GRPC_INFO_TAG: json.dumps(server)})
    assert run_id in ticker.look(clock.now - 1).skip_message
    clock.now += 2 * ticker.interval
    assert len(ticker.look(clock.now - 1).run_requests) == 1


@pytest.mark.parametrize(("late", "runs_it"), [(0, True), (29, True), (31, False), (200, False)])
@pytest.mark.parametrize("interval", ["300", "420"])
def test_a_tick_later_than_the_grace_is_skipped(
    build: Build, instance: dg.DagsterInstance, clock: Clock, interval: str, late: int, runs_it: bool
) -> None:
    ticker = Ticker(build(SYNC_INTERVAL=interval, SYNC_MISFIRE_GRACE="30"), instance)
    due = 6000 * 2100.0
    clock.now = due + late
    tick = ticker.look(due)
    assert len(tick.run_requests or []) == runs_it
    if not runs_it:
        assert f"{late} s late" in tick.skip_message and "SYNC_MISFIRE_GRACE" in tick.skip_message
        assert f"{datetime.fromtimestamp(due, UTC):%H:%M:%S}" in tick.skip_message
