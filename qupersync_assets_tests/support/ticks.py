"""Simulated time, and the schedule or the interval sensor evaluated in it as the daemon does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

from qupersync_assets.defs.sensors import FIRST_SYNC_NAME
from qupersync_assets.sync.due import last_due

JOB = "qupersync_main"


class Clock:
    """Time that passes only when a test sets it or code sleeps."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def datetime(self) -> type[datetime]:
        clock = self

        class ClockDatetime(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.fromtimestamp(clock.now, tz)

        return ClockDatetime


def last_tick(now: float, interval: int, zone: str = "US/Pacific") -> float:
    """The last multiple of the interval on the clock of the time zone."""
    return last_due(interval, datetime.fromtimestamp(now, UTC), ZoneInfo(zone)).timestamp()


class Ticker:
    """The schedule or the interval sensor of some definitions, or the sensor of a name, evaluated as the daemon does."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance, name: str | None = None) -> None:
        self.repository = definitions.get_repository_def()
        self.instance = instance
        self.resources = {"postgres": (definitions.resources or {})["postgres"]}
        self.cursor: str | None = None
        self.interval = 0
        sensors = [s for s in self.repository.sensor_defs if JOB in {t.job_name for t in s.targets}]
        syncing = [s for s in self.repository.schedule_defs if s.job_name == JOB]
        [self.schedule] = syncing
        # The sensor replaces the schedule where there is one.
        due: list[dg.ScheduleDefinition | dg.SensorDefinition] = [*sensors, *syncing]
        self.definition = next(d for d in due if (d.name == name if name else d.name != FIRST_SYNC_NAME))

    def look(self, at: float) -> Any:
        """Evaluate the schedule for a tick at that time, or the sensor now."""
        if isinstance(self.definition, dg.ScheduleDefinition):
            due = datetime.fromtimestamp(at, UTC)
            with dg.build_schedule_context(
                self.instance, due, repository_def=self.repository, resources=self.resources
            ) as schedule_context:
                schedule_context._instance = self.instance  # type: ignore[assignment]  # it would open another
                return self.definition.evaluate_tick(schedule_context)
        with dg.build_sensor_context(
            self.instance, self.cursor, repository_def=self.repository, resources=self.resources
        ) as sensor_context:
            tick = self.definition.evaluate_tick(sensor_context)
        self.cursor = tick.cursor or self.cursor
        return tick
