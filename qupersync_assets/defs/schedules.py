"""When to sync: every SYNC_INTERVAL seconds, one run at a time, none late; and the closing of broken runs.

Cron says only some intervals exactly, and nothing below a minute
(https://docs.dagster.io/guides/automate/schedules); the others are kept by a sensor on the same rules.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._utils.schedules import schedule_execution_time_iterator

from qupersync_assets.core.redaction import redact_exceptions
from qupersync_assets.defs.names import CLUSTER_TAG, JOB_NAME, SCHEDULED_TAG, TRIGGER_TAG
from qupersync_assets.defs.partitions import cluster_of_run
from qupersync_assets.defs.run_health import (
    FAILED_STATUSES,
    close_logs,
    close_stale_rows,
    is_dead,
    unfinished,
)
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec

# The daemon looks at sensors about every five seconds.
SENSOR_SECONDS = 5

CLEAR_AWAY_SECONDS = 30

SCHEDULE_NAME = f"{JOB_NAME}_schedule"

INTERVAL_NAME = f"{JOB_NAME}_interval"


def cron_for(interval: int) -> str | None:
    """The cron expression that fires every `interval` seconds exactly, or None if there is none."""
    minutes, seconds = divmod(interval, 60)
    if seconds == 0 and minutes > 0:
        if minutes < 60 and 60 % minutes == 0:
            return "* * * * *" if minutes == 1 else f"*/{minutes} * * * *"
        hours, rest = divmod(minutes, 60)
        if rest == 0 and hours <= 24 and 24 % hours == 0:
            return {1: "0 * * * *", 24: "0 0 * * *"}.get(hours, f"0 */{hours} * * *")
    return None


def next_sync(settings: Settings, now: datetime) -> datetime:
    """When the first sync after `now` is due (UTC), by the schedule or by the sensor in its place."""
    cron = cron_for(settings.sync_interval)
    if cron is None:
        interval = settings.sync_interval
        return datetime.fromtimestamp((int(now.timestamp() // interval) + 1) * interval, UTC)
    ticks = schedule_execution_time_iterator(now.timestamp(), cron, settings.sync_timezone)
    return next(tick.astimezone(UTC) for tick in ticks if tick > now)


def build_automation(
    specs: Sequence[SyncSpec], settings: Settings, job: dg.UnresolvedAssetJobDefinition
) -> tuple[list[dg.ScheduleDefinition], list[dg.SensorDefinition]]:
    """The schedule, or the sensor in its place, and the sensor that clears broken runs away."""
    cron = cron_for(settings.sync_interval)
    clearing = _clearing_sensor(specs, settings)
    if cron is None:
        return [], [_interval_sensor(specs, settings, job), clearing]
    return [_schedule(cron, specs, settings, job)], [clearing]


def _decide(
    instance: dg.DagsterInstance, specs: Sequence[SyncSpec], settings: Settings, due: datetime
) -> list[dg.RunRequest] | dg.SkipReason:
    """A run of each cluster of which no run is queued or going; skip, and say why, if the tick is late or no
    cluster is left."""
    late = (datetime.now(UTC) - due).total_seconds()
    if late > settings.sync_misfire_grace:
        return dg.SkipReason(
            f"The sync of {due:%Y-%m-%d %H:%M:%S} UTC came {late:.0f} s late, more than SYNC_MISFIRE_GRACE "
            f"({settings.sync_misfire_grace} s) allows."
        )
    going = [
        record.dagster_run
        for record in unfinished(instance, specs)
        if not is_dead(instance, record, settings.max_silence)
    ]
    clusters = list(settings.by_cluster())
    several = len(clusters) > 1
    trigger = "schedule" if cron_for(settings.sync_interval) else "sensor"
    requests: list[dg.RunRequest] = []
    reasons: list[str] = []
    for cluster in clusters:
        busy = next((run for run in going if cluster_of_run(run, clusters) in (cluster, None)), None)
        if busy is not None:
            of = f" of {cluster}" if several else ""
            reasons.append(f"Run {busy.run_id}{of} is {busy.status.value}; only one sync{of} runs at a time.")
            continue
        requests.append(
            dg.RunRequest(
                run_key=f"{due.isoformat()} {cluster}" if several else due.isoformat(),
                partition_key=cluster if several else None,
                tags={SCHEDULED_TAG: due.isoformat(), CLUSTER_TAG: cluster, TRIGGER_TAG: trigger},
            )
        )
    return requests or dg.SkipReason(" ".join(reasons))


def _schedule(
    cron: str, specs: Sequence[SyncSpec], settings: Settings, job: dg.UnresolvedAssetJobDefinition
) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=SCHEDULE_NAME,
        job=job,
        cron_schedule=cron,
        execution_timezone=settings.sync_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Syncs every {settings.sync_interval} s. Skips a tick while a sync runs or when late.",
    )
    def sync_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        return _decide(context.instance, specs, settings, context.scheduled_execution_time.astimezone(UTC))

    return sync_schedule


def _interval_sensor(
    specs: Sequence[SyncSpec], settings: Settings, job: dg.UnresolvedAssetJobDefinition
) -> dg.SensorDefinition:
    interval = settings.sync_interval

    @dg.sensor(
        name=INTERVAL_NAME,
        job=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Syncs every {interval} s, which cron cannot say. Skips while a sync runs or when late.",
    )
    def sync_interval(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        # Multiples of the interval since 1970, whenever the daemon was started: evenly spaced for good.
        now = time.time()
        due = int(now // interval) * interval
        if str(due) == context.cursor:
            due += interval
            if due - now > SENSOR_SECONDS:
                at = datetime.fromtimestamp(due, settings.time_zone())
                return dg.SensorResult(skip_reason=f"The next sync is due at {at:%Y-%m-%d %H:%M:%S %Z}.")
            time.sleep(max(0.0, due - time.time()))  # to the second, not to the daemon's next look
        decision = _decide(context.instance, specs, settings, datetime.fromtimestamp(due, UTC))
        if isinstance(decision, dg.SkipReason):
            return dg.SensorResult(skip_reason=decision, cursor=str(due))
        return dg.SensorResult(run_requests=decision, cursor=str(due))

    return sync_interval


def _clearing_sensor(specs: Sequence[SyncSpec], settings: Settings) -> dg.SensorDefinition:
    def clear(context: dg.SensorEvaluationContext, postgres: PostgresResource) -> dg.SensorResult:
        instance, clusters = context.instance, list(settings.by_cluster())
        ensure_schema(postgres)  # it may look before the first sync
        for record in unfinished(instance, specs):
            if is_dead(instance, record, settings.max_silence):
                instance.report_run_failed(record.dagster_run, "The process of this run has died.")
        for name in clusters:
            close_stale_rows(instance, postgres, name, specs, settings.max_silence)
        # What broke before the first look is not news.
        since = float(context.cursor) if context.cursor else time.time() - CLEAR_AWAY_SECONDS
        broken = instance.get_run_records(
            dg.RunsFilter(statuses=FAILED_STATUSES, updated_after=datetime.fromtimestamp(since, UTC)),
            limit=100,
            order_by="update_timestamp",
            ascending=True,
        )
        closed = 0
        for record in broken:
            cluster = cluster_of_run(record.dagster_run, clusters)
            if cluster in clusters:
                closed += close_logs(instance, postgres, cluster, specs, record)
        # Only now: if PostgreSQL was away, these runs are looked at again.
        latest = max((r.update_timestamp.timestamp() for r in broken), default=since)
        return dg.SensorResult(skip_reason=f"{closed} rows of quper.sync_logs closed.", cursor=str(latest))

    @dg.sensor(
        name="qupersync_clear_away",
        minimum_interval_seconds=CLEAR_AWAY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Closes the rows of quper.sync_logs of runs that failed early, were canceled or killed.",
    )
    def clear_away_sensor(
        context: dg.SensorEvaluationContext, postgres: dg.ResourceParam[PostgresResource]
    ) -> dg.SensorResult:
        with redact_exceptions():
            return clear(context, postgres)

    return clear_away_sensor
