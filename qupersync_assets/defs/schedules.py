"""The schedule of the syncs: every SYNC_INTERVAL seconds, one run per cluster at a time, no late runs.

Cron expresses only some intervals exactly, and none below a minute
(https://docs.dagster.io/guides/automate/schedules). A sensor with the same rules serves the others: see `sensors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from qupersync_assets.core.redaction import redact_exceptions
from qupersync_assets.defs.names import CLUSTER_TAG, JOB_NAME, SCHEDULED_TAG, TRIGGER_TAG
from qupersync_assets.defs.partitions import cluster_of_run
from qupersync_assets.defs.postponed import postponed
from qupersync_assets.defs.run_health import dead_runs, unfinished_runs
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec

SCHEDULE_NAME = f"{JOB_NAME}_schedule"
INTERVAL_NAME = f"{JOB_NAME}_interval"


def cron_for(interval: int) -> str | None:
    """Return the cron expression that fires every `interval` seconds exactly, or None if there is none."""
    minutes, seconds = divmod(interval, 60)
    if seconds == 0 and minutes > 0:
        if minutes < 60 and 60 % minutes == 0:
            return "* * * * *" if minutes == 1 else f"*/{minutes} * * * *"
        hours, rest = divmod(minutes, 60)
        if rest == 0 and hours <= 24 and 24 % hours == 0:
            return {1: "0 * * * *", 24: "0 0 * * *"}.get(hours, f"0 */{hours} * * *")
    return None


def next_sync(settings: Settings, now: datetime) -> datetime:
    """Return the time (UTC) of the first sync after `now`, by the schedule or by the interval sensor."""
    interval = settings.sync_interval
    if cron_for(interval) is None:
        return datetime.fromtimestamp((int(now.timestamp() // interval) + 1) * interval, UTC)
    tick = now.astimezone(UTC).replace(second=0, microsecond=0)
    while True:
        tick += timedelta(minutes=1)
        local = tick.astimezone(settings.time_zone())
        # The interval divides an hour, or a day into whole hours.
        if (local.hour * 3600 + local.minute * 60) % interval == 0:
            return tick


def build_schedules(
    specs: Sequence[SyncSpec], settings: Settings, job: dg.UnresolvedAssetJobDefinition
) -> list[dg.ScheduleDefinition]:
    """Build the schedule of the syncs; none if cron cannot express the interval."""
    cron = cron_for(settings.sync_interval)
    if cron is None:
        return []

    @dg.schedule(
        name=SCHEDULE_NAME,
        job=job,
        cron_schedule=cron,
        execution_timezone=settings.sync_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Syncs every {settings.sync_interval} s. Skips a tick while a sync runs or when late.",
    )
    def sync_schedule(
        context: dg.ScheduleEvaluationContext, postgres: dg.ResourceParam[PostgresResource]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        due = context.scheduled_execution_time.astimezone(UTC)
        return evaluate_tick(context.instance, postgres, specs, settings, due)

    return [sync_schedule]


def evaluate_tick(
    instance: dg.DagsterInstance,
    postgres: PostgresResource,
    specs: Sequence[SyncSpec],
    settings: Settings,
    due: datetime,
) -> list[dg.RunRequest] | dg.SkipReason:
    """Return a run for each cluster without an unfinished run, or the reason why no run starts.

    A tick that is evaluated more than SYNC_MISFIRE_GRACE after `due` (UTC) starts no run.
    """
    late = (datetime.now(UTC) - due).total_seconds()
    if late > settings.sync_misfire_grace:
        return dg.SkipReason(
            f"The sync of {due:%Y-%m-%d %H:%M:%S} UTC came {late:.0f} s late, more than SYNC_MISFIRE_GRACE "
            f"({settings.sync_misfire_grace} s) allows."
        )
    clusters = list(settings.by_cluster())
    unfinished = unfinished_runs(instance, specs)
    with redact_exceptions():
        dead = dead_runs(instance, postgres, clusters, specs, unfinished, settings.max_silence)
        later = postponed(postgres, settings, clusters, datetime.now(UTC))
    running = [record.dagster_run for record in unfinished if record not in dead]
    several = len(clusters) > 1
    tags = {SCHEDULED_TAG: due.isoformat(), TRIGGER_TAG: "schedule" if cron_for(settings.sync_interval) else "sensor"}
    requests: list[dg.RunRequest] = []
    reasons: list[str] = []
    for cluster in clusters:
        busy = next((run for run in running if cluster_of_run(run, clusters) in (cluster, None)), None)
        if busy is not None:
            of = f" of {cluster}" if several else ""
            reasons.append(f"Run {busy.run_id}{of} is {busy.status.value}; only one sync{of} runs at a time.")
            continue
        if cluster in later:
            reasons.append(later[cluster])
            continue
        run_key = f"{due.isoformat()} {cluster}" if several else due.isoformat()
        partition = cluster if several else None
        requests.append(dg.RunRequest(run_key, partition_key=partition, tags={CLUSTER_TAG: cluster, **tags}))
    return requests or dg.SkipReason(" ".join(reasons))
