"""The schedule of the syncs: one run per cluster at a time, at the interval of the cluster, no late runs.

Cron expresses only some intervals, and none below a minute (https://docs.dagster.io/guides/automate/schedules): the
schedule ticks as often as is needed, and each tick decides what is due. A sensor with the same rules serves intervals
that are no whole number of minutes: see `sensors`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from qupersync_assets.core.redaction import redact_exceptions
from qupersync_assets.defs.names import CLUSTER_TAG, POSTGRES_KEY, SCHEDULED_TAG, STANDALONE, TRIGGER_TAG, Placement
from qupersync_assets.defs.partitions import cluster_of_run
from qupersync_assets.defs.postponed import postponed
from qupersync_assets.defs.run_health import dead_runs, remaining_jobs, unfinished_runs
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.due import due_jobs, is_due, next_sync
from qupersync_assets.sync.job_choice import cluster_interval, jobs_by_cluster

MINUTE = 60
# A busy machine shall not start more runs because each takes long.
LATE_SECONDS = 600


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


_CRON_SECONDS = [seconds for seconds in range(MINUTE, 86401, MINUTE) if cron_for(seconds)]


def cron_seconds(settings: Settings) -> int | None:
    """Return the longest time between two ticks of a cron schedule that meets each time at which a cluster is due;
    None if cron cannot express it, because an interval is no whole number of minutes."""
    common = math.gcd(*(cluster_interval(settings, cluster) for cluster in settings.by_cluster()))
    return max((seconds for seconds in _CRON_SECONDS if common % seconds == 0), default=None)


def interval_name(placement: Placement) -> str:
    """Return the name of the sensor that starts the syncs at intervals that cron cannot express."""
    return f"{placement.main_job}_interval"


def build_schedules(
    specs: Sequence[SyncSpec], settings: Settings, job: dg.UnresolvedAssetJobDefinition, placement: Placement
) -> list[dg.ScheduleDefinition]:
    """Build the schedule of the syncs. Its name does not depend on the settings: Dagster stores by the name whether
    a user has stopped it."""
    seconds = cron_seconds(settings)
    postgres_key = placement.resource(POSTGRES_KEY)

    @dg.schedule(
        name=placement.schedule,
        job=job,
        cron_schedule=cron_for(seconds or MINUTE) or "",
        execution_timezone=settings.sync_timezone,
        default_status=placement.schedule_status,
        required_resource_keys={postgres_key},
        description=f"Syncs {describe_intervals(settings)}. A tick is skipped if it is late, or while a sync runs.",
    )
    def sync_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        if seconds is None:
            sensor = interval_name(placement)
            return dg.SkipReason(f"The sensor {sensor} starts the syncs, as long as this schedule is running.")
        postgres: PostgresResource = getattr(context.resources, postgres_key)
        due = context.scheduled_execution_time.astimezone(UTC)
        return evaluate_tick(context.instance, postgres, specs, settings, due, MINUTE, placement)

    return [sync_schedule]


def describe_intervals(settings: Settings) -> str:
    """Return how often the clusters are synced, for people."""
    intervals = {cluster: cluster_interval(settings, cluster) for cluster in settings.by_cluster()}
    if len(set(intervals.values())) == 1:
        return f"every {min(intervals.values())} s"
    return ", ".join(f"{cluster} every {interval} s" for cluster, interval in intervals.items())


def evaluate_tick(
    instance: dg.DagsterInstance,
    postgres: PostgresResource,
    specs: Sequence[SyncSpec],
    settings: Settings,
    due: datetime,
    seconds: int,
    placement: Placement = STANDALONE,
) -> list[dg.RunRequest] | dg.SkipReason:
    """Return a run for each cluster that is due and has no unfinished run, or the reason why no run starts.

    A cluster is due if its time came in the `seconds` before `due` (UTC). A tick that is evaluated more than
    SYNC_MISFIRE_GRACE after `due` starts no run.
    """
    late = (datetime.now(UTC) - due).total_seconds()
    if late > settings.sync_misfire_grace:
        return dg.SkipReason(
            f"The sync of {due:%Y-%m-%d %H:%M:%S} UTC came {late:.0f} s late, more than SYNC_MISFIRE_GRACE "
            f"({settings.sync_misfire_grace} s) allows."
        )
    clusters, zone = list(settings.by_cluster()), settings.time_zone()
    due_clusters = [name for name in clusters if is_due(cluster_interval(settings, name), due, zone, seconds)]
    if not due_clusters:
        return dg.SkipReason(f"The next sync is due at {next_sync(settings, due):%Y-%m-%d %H:%M} UTC.")
    unfinished = unfinished_runs(instance, specs, placement)
    with redact_exceptions():
        dead = dead_runs(instance, postgres, clusters, specs, unfinished, settings.max_silence)
        later = postponed(postgres, settings, due_clusters, datetime.now(UTC))
    running = [record for record in unfinished if record not in dead]
    several = len(clusters) > 1
    tags = {SCHEDULED_TAG: due.isoformat(), TRIGGER_TAG: "schedule" if cron_seconds(settings) else "sensor"}
    requests: list[dg.RunRequest] = []
    reasons: list[str] = []
    for cluster in due_clusters:
        busy = [record for record in running if cluster_of_run(record.dagster_run, clusters) in (cluster, None)]
        loading = _late_jobs(instance, busy, specs, due, cluster_interval(settings, cluster), placement)
        if loading is None:
            run, of = busy[0].dagster_run, f" of {cluster}" if several else ""
            reasons.append(f"Run {run.run_id}{of} is {run.status.value}; only one sync{of} runs at a time.")
            continue
        if cluster in later:
            reasons.append(later[cluster])
            continue
        with redact_exceptions():
            jobs = [spec for spec in due_jobs(postgres, settings, cluster, due) if spec.sync_job_id not in loading]
        if not jobs:
            reasons.append(f"All jobs of {cluster} that are due are already being loaded.")
            continue
        is_complete = len(jobs) == len(jobs_by_cluster(settings)[cluster])
        requests.append(
            dg.RunRequest(
                f"{due.isoformat()} {cluster}" if several else due.isoformat(),
                partition_key=cluster if several else None,
                tags={CLUSTER_TAG: cluster, **tags},
                asset_selection=None if is_complete else [placement.asset_key(spec) for spec in jobs],
            )
        )
    return requests or dg.SkipReason(" ".join(reasons))


def _late_jobs(
    instance: dg.DagsterInstance,
    busy: Sequence[dg.RunRecord],
    specs: Sequence[SyncSpec],
    due: datetime,
    interval: int,
    placement: Placement,
) -> set[str] | None:
    """Return the jobs that unfinished runs still load after two intervals and LATE_SECONDS, for example because one
    hangs: the other jobs are synced without them. None if one of the runs is younger, or has not planned its jobs."""
    jobs: set[str] = set()
    for record in busy:
        started = record.start_time
        remaining = remaining_jobs(instance, record.dagster_run, specs, placement) if started else None
        if not started or not remaining or due.timestamp() - started < max(2 * interval, LATE_SECONDS):
            return None
        jobs |= remaining
    return jobs
