"""The sensors: one syncs at intervals that cron cannot express, one closes the log rows of failed runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from qupersync_assets.core.redaction import redact_exceptions
from qupersync_assets.defs.partitions import cluster_of_run
from qupersync_assets.defs.run_health import FAILED_STATUSES, close_logs, close_stale_rows
from qupersync_assets.defs.schedules import INTERVAL_NAME, cron_for, evaluate_tick
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec

# The daemon evaluates sensors about every five seconds.
POLL_SECONDS = 5
STALE_ROWS_NAME = "qupersync_close_stale_rows"
STALE_ROWS_SECONDS = 30


def build_sensors(
    specs: Sequence[SyncSpec], settings: Settings, job: dg.UnresolvedAssetJobDefinition
) -> list[dg.SensorDefinition]:
    """Build the sensor that closes stale rows; before it the interval sensor, if cron needs a substitute."""
    stale_rows = _stale_rows_sensor(specs, settings)
    if cron_for(settings.sync_interval) is not None:
        return [stale_rows]
    return [_interval_sensor(specs, settings, job), stale_rows]


def _interval_sensor(
    specs: Sequence[SyncSpec], settings: Settings, job: dg.UnresolvedAssetJobDefinition
) -> dg.SensorDefinition:
    interval = settings.sync_interval

    @dg.sensor(
        name=INTERVAL_NAME,
        job=job,
        minimum_interval_seconds=POLL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Syncs every {interval} s, which cron cannot express. Skips a tick while a sync runs or "
        "when late.",
    )
    def sync_interval(
        context: dg.SensorEvaluationContext, postgres: dg.ResourceParam[PostgresResource]
    ) -> dg.SensorResult:
        # Ticks are multiples of the interval since 1970: evenly spaced, whenever the daemon was started.
        now = time.time()
        due = int(now // interval) * interval
        if str(due) == context.cursor:
            due += interval
            if due - now > POLL_SECONDS:
                at = datetime.fromtimestamp(due, settings.time_zone())
                return dg.SensorResult(skip_reason=f"The next sync is due at {at:%Y-%m-%d %H:%M:%S %Z}.")
            time.sleep(max(0.0, due - time.time()))  # start at the second, not at the next evaluation
        tick = evaluate_tick(context.instance, postgres, specs, settings, datetime.fromtimestamp(due, UTC))
        if isinstance(tick, dg.SkipReason):
            return dg.SensorResult(skip_reason=tick, cursor=str(due))
        return dg.SensorResult(run_requests=tick, cursor=str(due))

    return sync_interval


def _stale_rows_sensor(specs: Sequence[SyncSpec], settings: Settings) -> dg.SensorDefinition:
    clusters = list(settings.by_cluster())

    @dg.sensor(
        name=STALE_ROWS_NAME,
        minimum_interval_seconds=STALE_ROWS_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Closes the rows of quper.sync_logs of runs that failed early, were canceled or killed.",
    )
    def stale_rows_sensor(
        context: dg.SensorEvaluationContext, postgres: dg.ResourceParam[PostgresResource]
    ) -> dg.SensorResult:
        instance = context.instance
        # Runs that failed before the first evaluation are ignored.
        since = float(context.cursor) if context.cursor else time.time() - STALE_ROWS_SECONDS
        with redact_exceptions():
            ensure_schema(postgres)  # this may be the first use of the target
            close_stale_rows(instance, postgres, clusters, specs, settings.max_silence)
            failed = instance.get_run_records(
                dg.RunsFilter(statuses=FAILED_STATUSES, updated_after=datetime.fromtimestamp(since, UTC)),
                limit=100,
                order_by="update_timestamp",
                ascending=True,
            )
            closed = 0
            for record in failed:
                cluster = cluster_of_run(record.dagster_run, clusters)
                if cluster in clusters:
                    closed += close_logs(instance, postgres, cluster, specs, record)
        # The cursor moves last: if PostgreSQL cannot be reached, the next evaluation does these runs again.
        latest = max((r.update_timestamp.timestamp() for r in failed), default=since)
        return dg.SensorResult(skip_reason=f"{closed} rows of quper.sync_logs closed.", cursor=str(latest))

    return stale_rows_sensor
