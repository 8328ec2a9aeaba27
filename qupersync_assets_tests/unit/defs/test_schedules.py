"""Ticks every SYNC_INTERVAL seconds, by cron or by the interval sensor."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from qupersync_assets.defs.names import SCHEDULED_TAG
from qupersync_assets.defs.schedules import cron_for
from qupersync_assets.sync.due import next_sync
from qupersync_assets_tests.support.ticks import Clock, Ticker
from qupersync_assets_tests.unit.conftest import Build, Load

BY_CRON = [60, 300, 3600, 86400]
BY_SENSOR = [10, 45, 90, 430, 5410]


def times(cron: str, zone: str, start: float) -> Iterator[float]:
    """The ticks that Dagster computes."""
    return (t.timestamp() for t in schedule_execution_time_iterator(start, cron, zone))


def gaps(moments: list[float]) -> set[float]:
    return {round(b - a, 6) for a, b in itertools.pairwise(moments)}


@pytest.mark.parametrize("interval", BY_CRON)
@pytest.mark.parametrize("zone", ["US/Pacific", "Asia/Kolkata"])
def test_the_schedule_ticks_evenly(build: Build, instance: dg.DagsterInstance, interval: int, zone: str) -> None:
    definition = Ticker(build(SYNC_INTERVAL=str(interval), SYNC_TIMEZONE=zone), instance).definition
    assert isinstance(definition, dg.ScheduleDefinition)
    assert definition.execution_timezone == zone
    start = datetime(2026, 6, 1, 7, 13, 20, tzinfo=UTC).timestamp()
    ticks = list(itertools.islice(times(str(definition.cron_schedule), zone, start), 20))
    assert gaps(ticks) == {interval}


@pytest.mark.parametrize("interval", [i for i in BY_CRON if i <= 3600])
@pytest.mark.parametrize("change", ["2026-03-08", "2026-11-01"])
def test_the_schedule_ticks_evenly_while_the_clocks_are_changed(interval: int, change: str) -> None:
    start = datetime.fromisoformat(f"{change}T07:00:00Z").timestamp()
    ticks = itertools.takewhile(lambda t: t < start + 6 * 3600, times(str(cron_for(interval)), "US/Pacific", start))
    assert gaps(list(ticks)) == {interval}


def test_a_daily_sync_is_at_midnight_of_the_time_zone() -> None:
    tick = next(times(str(cron_for(86400)), "Europe/Berlin", datetime(2026, 6, 1, tzinfo=UTC).timestamp()))
    assert datetime.fromtimestamp(tick, UTC) == datetime(2026, 6, 1, 22, tzinfo=UTC)


@pytest.mark.parametrize("interval", [60, 300, 1800, 3600, 6 * 3600, 86400])
@pytest.mark.parametrize("zone", ["US/Pacific", "Asia/Kolkata", "Europe/Berlin"])
@pytest.mark.parametrize(
    "now", ["2026-06-01T07:13:20", "2026-03-08T09:59:59", "2026-11-01T08:30:00", "2026-10-25T00:00:00"]
)
def test_the_next_sync_is_the_next_tick_of_dagster(load: Load, interval: int, zone: str, now: str) -> None:
    moment = datetime.fromisoformat(f"{now}Z")
    settings = load(SYNC_INTERVAL=str(interval), SYNC_TIMEZONE=zone)
    cron = cron_for(interval)
    assert cron is not None
    ticks = times(cron, zone, moment.timestamp())
    expected = next(tick for tick in ticks if tick > moment.timestamp())
    assert next_sync(settings, moment).timestamp() == expected


def test_cron_is_used_for_the_intervals_that_it_expresses_exactly() -> None:
    by_cron = {n: cron for n in range(10, 90_001) if (cron := cron_for(n)) is not None}
    whole_minutes = {n for n in range(60, 3600, 60) if 3600 % n == 0}
    assert by_cron.keys() == whole_minutes | {n for n in range(3600, 90_001, 3600) if 86400 % n == 0}
    start = datetime(2026, 6, 1, 0, 0, 1, tzinfo=UTC).timestamp()
    for interval, cron in by_cron.items():
        length = 2 * 3600 if interval < 3600 else 3 * 86400
        ticks = itertools.takewhile((start + length).__gt__, times(cron, "UTC", start))
        assert gaps(list(ticks)) == {interval}, cron


@pytest.mark.parametrize("interval", BY_SENSOR)
def test_the_sensor_fires_evenly(build: Build, instance: dg.DagsterInstance, clock: Clock, interval: int) -> None:
    ticker = Ticker(build(SYNC_INTERVAL=str(interval)), instance)
    assert isinstance(ticker.definition, dg.SensorDefinition)
    looks = random.Random(interval)
    clock.now = 1_790_000_000.0 + looks.uniform(0, interval)
    due: list[float] = []
    fired: list[float] = []
    while len(due) < 11:
        tick = ticker.look(clock.now)
        assert len(tick.run_requests or []) <= 1
        for request in tick.run_requests or []:
            due.append(datetime.fromisoformat(request.tags[SCHEDULED_TAG]).timestamp())
            fired.append(clock.now)
            assert request.run_key
        assert tick.run_requests or tick.skip_message
        # Every 5 to 7 seconds, but not through all of a long interval.
        clock.now += looks.uniform(5, 7)
        if due:
            clock.now = max(clock.now, (clock.now + due[-1] + interval) / 2 - 15)
    assert gaps(due) == {interval}
    # The first look comes at any time; from then on nothing is late by more than looks are apart.
    assert all(0 <= at - moment <= 2 for at, moment in list(zip(fired, due, strict=True))[1:])


def test_a_stopped_sensor_continues_with_the_same_ticks(
    build: Build, instance: dg.DagsterInstance, clock: Clock
) -> None:
    ticker = Ticker(build(SYNC_INTERVAL="90"), instance)
    moments = []
    for now in (9_000_000, 9_000_000 + 90 * 7 + 30, 9_000_000 + 90 * 8 + 1):
        clock.now = float(now)
        moments += [request.run_key for request in ticker.look(now).run_requests]
    assert [datetime.fromisoformat(key).timestamp() % 90 for key in moments] == [0, 0, 0]
    assert len(set(moments)) == 3


@pytest.mark.parametrize("interval", ["300", "430"])
def test_schedules_and_sensors_run_by_default(build: Build, instance: dg.DagsterInstance, interval: str) -> None:
    ticker = Ticker(build(SYNC_INTERVAL=interval), instance)
    definitions: list[Any] = [ticker.schedule, *ticker.repository.sensor_defs]
    statuses = [d.default_status.value for d in definitions]
    assert set(statuses) == {"RUNNING"}


def test_the_sensor_names_the_next_sync_in_utc(build: Build, instance: dg.DagsterInstance, clock: Clock) -> None:
    ticker = Ticker(build(SYNC_INTERVAL="430", SYNC_TIMEZONE="Asia/Kolkata"), instance)
    clock.now = datetime(2026, 6, 1, 0, 0, tzinfo=UTC).timestamp()
    ticker.look(clock.now)
    assert "UTC" in ticker.look(clock.now).skip_message
