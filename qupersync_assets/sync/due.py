"""When a sync is due: at multiples of its interval on the clock of SYNC_TIMEZONE, counted from 1970.

A cluster is due at the shortest interval of its jobs. A job with a longer one runs with the first sync of its cluster
after its own time has come, and again with the next one until it has succeeded.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from qupersync_assets.core.errors import SyncError
from qupersync_assets.postgres.job_status import is_usable
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.sync_logs import last_reads
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.job_choice import cluster_interval, jobs_by_cluster

# A run may have a start that is this much earlier than its tick, because clocks differ.
CLOCK_SECONDS = 30
HOUR = 3600


def is_due(interval: int, at: datetime, zone: ZoneInfo, seconds: int) -> bool:
    """Return whether a multiple of the interval lies in the last `seconds` before `at`, or at it."""
    before = at.astimezone(UTC) - timedelta(seconds=seconds)
    return _count(interval, at, zone)[0] != _count(interval, before, zone)[0]


def last_due(interval: int, at: datetime, zone: ZoneInfo) -> datetime:
    """Return the last multiple of the interval that is not later than `at`."""
    return at - timedelta(seconds=_count(interval, at, zone)[1])


def next_sync(
    settings: Settings, now: datetime, cluster: str | None = None, sync_job_id: str | None = None
) -> datetime:
    """Return the time (UTC) of the first sync after `now`: of a job in a cluster, of a cluster, or of all clusters."""
    if cluster is None:
        return min(next_sync(settings, now, name) for name in settings.by_cluster())
    zone, interval = settings.time_zone(), cluster_interval(settings, cluster)
    due = _next_due(interval, now, zone)
    if sync_job_id is not None:
        of_job = settings.interval(cluster, sync_job_id)
        while _count(of_job, due, zone)[0] == _count(of_job, now, zone)[0]:
            due = _next_due(interval, due, zone)
    return due


def due_jobs(postgres: PostgresResource, settings: Settings, cluster: str, at: datetime) -> Sequence[SyncSpec]:
    """Return the jobs that a sync of a cluster at that time loads: those that were not read since they were due.

    PostgreSQL is asked only if the jobs have different intervals. If it cannot be reached, all jobs are due: their
    run says why.
    """
    jobs = jobs_by_cluster(settings)[cluster]
    shortest, zone = cluster_interval(settings, cluster), settings.time_zone()
    # When each job with a longer interval was due.
    slow = {
        spec.sync_job_id: last_due(interval, at, zone) - timedelta(seconds=min(CLOCK_SECONDS, shortest / 2))
        for spec in jobs
        if (interval := settings.interval(cluster, spec.sync_job_id)) > shortest
    }
    if not slow:
        return jobs
    try:
        if not is_usable(postgres):
            return jobs
        with postgres.transaction() as connection:
            read = last_reads(connection, cluster, list(slow), min(slow.values()))
    except SyncError:
        return jobs
    done = {job for job, since in slow.items() if job in read and read[job] >= since}
    return [spec for spec in jobs if spec.sync_job_id not in done]


def _count(interval: int, at: datetime, zone: ZoneInfo) -> tuple[float, float]:
    """Return how many intervals have passed since 1970, and for how many seconds the present one has lasted.

    Intervals of up to an hour are evenly spaced, also while the clocks are changed.
    """
    offset = (at.astimezone(zone).utcoffset() or timedelta()).total_seconds()
    return divmod(at.timestamp() + (offset if interval > HOUR else offset % HOUR), interval)


def _next_due(interval: int, now: datetime, zone: ZoneInfo) -> datetime:
    due = now.astimezone(UTC) + timedelta(seconds=interval - _count(interval, now, zone)[1])
    if interval % 60:
        return due
    # The schedule ticks at whole minutes. The clock may be changed, by three hours at most, until the sync.
    tick = max(now.astimezone(UTC), due - timedelta(hours=3)).replace(second=0, microsecond=0)
    while True:
        tick += timedelta(minutes=1)
        if is_due(interval, tick, zone, 60):
            return tick
