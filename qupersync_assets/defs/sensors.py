"""The sensors: one syncs at intervals that are no whole number of minutes, one starts the first sync, one closes the
log rows of failed runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from qupersync_assets.core.redaction import redact_exceptions
from qupersync_assets.defs.instance import is_switched_on
from qupersync_assets.defs.names import CLUSTER_TAG, POSTGRES_KEY, STANDALONE, Placement
from qupersync_assets.defs.own_runs import is_own, selects_assets
from qupersync_assets.defs.partitions import cluster_of_run
from qupersync_assets.defs.run_health import FAILED_STATUSES, close_logs, close_stale_rows
from qupersync_assets.defs.schedules import cron_seconds, describe_intervals, evaluate_tick, interval_name
from qupersync_assets.postgres import sync_logs
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.due import last_due, next_sync
from qupersync_assets.sync.job_choice import cluster_interval

# The daemon evaluates sensors about every five seconds.
POLL_SECONDS = 5
STALE_ROWS_SECONDS = 30
FIRST_SYNC_NAME = f"{STANDALONE.name}_first_sync"
FIRST_SYNC_SECONDS = 300
# A tick of the schedule within this time is soon enough.
SOON_SECONDS = 30
# Longer than any interval: each cluster is due.
ANY_SECONDS = 32 * 86400


def build_sensors(
    specs: Sequence[SyncSpec], settings: Settings, job: dg.UnresolvedAssetJobDefinition, placement: Placement
) -> list[dg.SensorDefinition]:
    """Build the sensors; the interval sensor, which is the first one, only if cron needs a substitute."""
    sensors = [_first_sync_sensor(specs, settings, job, placement), _stale_rows_sensor(specs, settings, placement)]
    return sensors if cron_seconds(settings) else [_interval_sensor(specs, settings, job, placement), *sensors]


def _interval_sensor(
    specs: Sequence[SyncSpec], settings: Settings, job: dg.UnresolvedAssetJobDefinition, placement: Placement
) -> dg.SensorDefinition:
    postgres_key = placement.resource(POSTGRES_KEY)
    zone = settings.time_zone()
    intervals = {cluster_interval(settings, cluster) for cluster in settings.by_cluster()}

    @dg.sensor(
        name=interval_name(placement),
        job=job,
        minimum_interval_seconds=POLL_SECONDS,
        default_status=placement.sensor_status,
        required_resource_keys={postgres_key},
        description=f"Syncs {describe_intervals(settings)}, which cron cannot express. A tick is skipped if it is "
        f"late, or while a sync runs. To pause the syncs, stop the schedule {placement.schedule}.",
    )
    def sync_interval(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        postgres: PostgresResource = getattr(context.resources, postgres_key)
        if not is_switched_on(context.instance, placement.schedule, by_default=placement.running):
            reason = f"The schedule {placement.schedule} is stopped, and this sensor follows it."
            return dg.SensorResult(skip_reason=reason)
        # Ticks are multiples of the intervals: evenly spaced, whenever the daemon was started.
        now = datetime.fromtimestamp(time.time(), UTC)
        due = max(last_due(interval, now, zone) for interval in intervals)
        if str(due.timestamp()) == context.cursor:
            due = next_sync(settings, due)
            if (due - now).total_seconds() > POLL_SECONDS:
                return dg.SensorResult(skip_reason=f"The next sync is due at {due:%Y-%m-%d %H:%M:%S} UTC.")
            time.sleep(max(0.0, due.timestamp() - time.time()))  # start at the second, not at the next evaluation
        tick = evaluate_tick(context.instance, postgres, specs, settings, due, 1, placement)
        cursor = str(due.timestamp())
        if isinstance(tick, dg.SkipReason):
            return dg.SensorResult(skip_reason=tick, cursor=cursor)
        return dg.SensorResult(run_requests=tick, cursor=cursor)

    return sync_interval


def _first_sync_sensor(
    specs: Sequence[SyncSpec], settings: Settings, job: dg.UnresolvedAssetJobDefinition, placement: Placement
) -> dg.SensorDefinition:
    postgres_key = placement.resource(POSTGRES_KEY)
    clusters = list(settings.by_cluster())

    @dg.sensor(
        name=f"{placement.name}_first_sync",
        job=job,
        minimum_interval_seconds=FIRST_SYNC_SECONDS,
        default_status=placement.sensor_status,
        required_resource_keys={postgres_key},
        description="Syncs a cluster at once if it was never synced successfully; then the schedule takes over.",
    )
    def first_sync(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        postgres: PostgresResource = getattr(context.resources, postgres_key)
        synced = set((context.cursor or "").split(","))
        if synced >= set(clusters):
            return dg.SensorResult(skip_reason="Each cluster has been synced.", cursor=context.cursor)
        if not is_switched_on(context.instance, placement.schedule, by_default=placement.running):
            return dg.SensorResult(skip_reason=f"The schedule {placement.schedule} is stopped.", cursor=context.cursor)
        now = datetime.now(UTC)
        due = next_sync(settings, now)
        if due - now < timedelta(seconds=SOON_SECONDS):
            return dg.SensorResult(skip_reason=f"A sync is due at {due:%H:%M:%S} UTC.", cursor=context.cursor)
        with redact_exceptions():
            ensure_schema(postgres)  # this may be the first use of the target
            with postgres.transaction() as connection:
                attempts = sync_logs.attempts(connection)
            tick = evaluate_tick(context.instance, postgres, specs, settings, now, ANY_SECONDS, placement)
        never = datetime.min.replace(tzinfo=UTC)
        states = {name: attempts.get(name, (False, never)) for name in clusters}
        cursor = ",".join(name for name, (succeeded, _) in states.items() if succeeded)
        if isinstance(tick, dg.SkipReason):
            return dg.SensorResult(skip_reason=tick, cursor=cursor)
        # After a failure the schedule follows soon enough.
        since = {name: now - timedelta(seconds=cluster_interval(settings, name)) for name in clusters}
        new = [name for name, (succeeded, last) in states.items() if not succeeded and last < since[name]]
        requests = [request for request in tick if request.tags[CLUSTER_TAG] in new]
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return first_sync


def _stale_rows_sensor(specs: Sequence[SyncSpec], settings: Settings, placement: Placement) -> dg.SensorDefinition:
    postgres_key = placement.resource(POSTGRES_KEY)
    clusters = list(settings.by_cluster())

    @dg.sensor(
        name=f"{placement.name}_close_stale_rows",
        minimum_interval_seconds=STALE_ROWS_SECONDS,
        default_status=placement.sensor_status,
        required_resource_keys={postgres_key},
        description="Closes the rows of runs in quper.sync_logs that failed early, were canceled or killed.",
    )
    def stale_rows_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        postgres: PostgresResource = getattr(context.resources, postgres_key)
        instance = context.instance
        # Runs that failed before the first evaluation are ignored.
        since = float(context.cursor) if context.cursor else time.time() - STALE_ROWS_SECONDS
        with redact_exceptions():
            ensure_schema(postgres)  # this may be the first use of the target
            close_stale_rows(instance, postgres, specs, settings, placement)
            failed = instance.get_run_records(
                dg.RunsFilter(statuses=FAILED_STATUSES, updated_after=datetime.fromtimestamp(since, UTC)),
                limit=100,
                order_by="update_timestamp",
                ascending=True,
            )
            closed = 0
            for record in failed:
                run = record.dagster_run
                cluster = cluster_of_run(run, clusters)
                if cluster in clusters and (
                    is_own(run, specs, settings, placement) or selects_assets(run, specs, placement)
                ):
                    closed += close_logs(instance, postgres, cluster, specs, record, placement)
        # The cursor moves last: if PostgreSQL cannot be reached, the next evaluation does these runs again.
        latest = max((r.update_timestamp.timestamp() for r in failed), default=since)
        return dg.SensorResult(skip_reason=f"{closed} rows of quper.sync_logs closed.", cursor=str(latest))

    return stale_rows_sensor
