"""Clusters and jobs with intervals of their own: one schedule, whose name and pause do not depend on them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
from dagster._utils.schedules import schedule_execution_time_iterator

from qupersync_assets.defs.names import SCHEDULED_TAG
from qupersync_assets.sync.dagster_state import SCHEDULE_NAME
from qupersync_assets.sync.due import is_due, next_sync
from qupersync_assets_tests.support.ticks import Clock, Ticker
from qupersync_assets_tests.unit.conftest import TWO_CLUSTERS, Build, Load

PACIFIC = ZoneInfo("US/Pacific")


def starts(ticker: Ticker, clock: Clock, hours: float, start: str = "2026-06-01T07:13:20Z") -> dict[str, list[float]]:
    """When runs of each cluster start within some hours of Dagster's ticks."""
    found = defaultdict(list)
    first = datetime.fromisoformat(start).timestamp()
    cron = str(ticker.schedule.cron_schedule)
    ticks = schedule_execution_time_iterator(first, cron, ticker.schedule.execution_timezone)
    for tick in itertools.takewhile(lambda tick: tick.timestamp() < first + hours * 3600, ticks):
        clock.now = tick.timestamp()
        for request in ticker.look(clock.now).run_requests or []:
            found[request.tags["qupersync/cluster"]].append(clock.now)
    return dict(found)


def gaps(moments: list[float]) -> set[float]:
    return {b - a for a, b in itertools.pairwise(moments)}


@pytest.mark.parametrize(("prod", "west"), [(300, 3600), (420, 300), (5400, 7200), (3600, 86400)])
def test_each_cluster_is_synced_at_its_own_interval(
    build: Build, instance: dg.DagsterInstance, clock: Clock, prod: int, west: int
) -> None:
    own = {"SYNC_INTERVAL": str(prod), "REDSHIFT_EU_WEST_SYNC_INTERVAL": str(west)}
    ticker = Ticker(build(**TWO_CLUSTERS, **own), instance)
    found = starts(ticker, clock, hours=max(prod, west) * 2.5 / 3600)
    assert gaps(found["prod"]) == {prod}
    assert gaps(found["eu-west"]) in ({west}, set()) and found["eu-west"]


@pytest.mark.parametrize(("interval", "change"), [(420, "2026-03-08"), (2700, "2026-11-01"), (3600, "2026-11-01")])
def test_intervals_of_up_to_an_hour_are_even_while_the_clocks_are_changed(
    build: Build, instance: dg.DagsterInstance, clock: Clock, interval: int, change: str
) -> None:
    # The schedule ticks each minute, because prod's interval is one.
    own = {"SYNC_INTERVAL": "60", "REDSHIFT_EU_WEST_SYNC_INTERVAL": str(interval)}
    found = starts(Ticker(build(**TWO_CLUSTERS, **own), instance), clock, 5, f"{change}T07:00:00Z")
    assert gaps(found["eu-west"]) == {interval}


@pytest.mark.parametrize(("change", "odd"), [("2026-03-07", 1), ("2026-10-31", 3)])
def test_longer_intervals_follow_the_clock(change: str, odd: int) -> None:
    first = datetime.fromisoformat(f"{change}T08:00:00Z")
    minutes = (first + timedelta(minutes=n) for n in range(46 * 60))
    due = [minute for minute in minutes if is_due(7200, minute, PACIFIC, 60)]
    hours = sorted((b - a).total_seconds() / 3600 for a, b in itertools.pairwise(due))
    assert hours.count(odd) == 1 and hours.count(2) == len(hours) - 1
    assert {minute.astimezone(PACIFIC).hour % 2 for minute in due} <= {0, 1 if odd == 1 else 0}


def test_the_name_of_the_schedule_does_not_depend_on_the_interval(build: Build) -> None:
    # Dagster's identity of a schedule: its name and where it is defined.
    for interval in ("10", "45", "90", "300", "420", "86400"):
        schedules = build(SYNC_INTERVAL=interval).get_repository_def().schedule_defs
        assert SCHEDULE_NAME in {schedule.name for schedule in schedules}


def test_the_sensor_for_seconds_stops_with_the_schedule(
    build: Build, instance: dg.DagsterInstance, clock: Clock
) -> None:
    ticker = Ticker(build(SYNC_INTERVAL="45"), instance)
    assert isinstance(ticker.definition, dg.SensorDefinition)
    sensor, ticker.definition = ticker.definition, ticker.schedule
    tick = ticker.look(clock.now)
    assert not tick.run_requests and sensor.name in tick.skip_message
    ticker.definition = sensor
    assert ticker.look(clock.now).run_requests
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("qupersync"), "repository")
    origin = RemoteInstigatorOrigin(repository, SCHEDULE_NAME)
    data = ScheduleInstigatorData(str(ticker.schedule.cron_schedule), None)
    stopped = InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.STOPPED, data)
    instance.add_instigator_state(stopped)
    try:
        clock.now += 45
        tick = ticker.look(clock.now)
        assert not tick.run_requests and SCHEDULE_NAME in tick.skip_message
    finally:
        instance.delete_instigator_state(stopped.instigator_origin_id, stopped.selector_id)
    assert ticker.look(clock.now).run_requests


@pytest.mark.parametrize("interval", ["20", "45", "300", "420", "5400"])
def test_the_next_sync_is_the_one_that_a_tick_starts(
    build: Build, load: Load, instance: dg.DagsterInstance, clock: Clock, interval: str
) -> None:
    own = {"SYNC_INTERVAL": "3600", "REDSHIFT_EU_WEST_SYNC_INTERVAL": interval}
    settings, ticker = load(**TWO_CLUSTERS, **own), Ticker(build(**TWO_CLUSTERS, **own), instance)
    now = datetime.fromisoformat("2026-06-01T07:13:21Z")
    for cluster in ("eu-west", "prod"):
        due = next_sync(settings, now, cluster)
        clock.now, ticker.cursor = due.timestamp(), None
        requests = ticker.look(clock.now).run_requests
        assert cluster in {request.partition_key for request in requests}
        assert {request.tags[SCHEDULED_TAG] for request in requests} == {due.isoformat()}
    assert next_sync(settings, now) == min(next_sync(settings, now, cluster) for cluster in ("eu-west", "prod"))


def test_the_next_run_of_a_slow_job_is_a_sync_of_its_cluster(load: Load) -> None:
    settings = load(SYNC_JOB_INTERVALS="node_details_sync=3600,query_history_sync=420")
    now = datetime.fromisoformat("2026-06-01T07:13:20Z")
    assert next_sync(settings, now, "default", "node_details_sync") == datetime.fromisoformat("2026-06-01T08:00:00Z")
    queries = next_sync(settings, now, "default", "query_history_sync")
    assert queries == next_sync(settings, queries - timedelta(seconds=1), "default")
    assert 0 <= (queries - now).total_seconds() <= 420 + 300
