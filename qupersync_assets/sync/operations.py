"""Finds what keeps the installation from syncing, also if nothing fails: it looks for successes that are missing.

A run that fails has an event. A daemon that is dead, a schedule that is switched off, a queue that does not move and a
process that hangs have none. None of them can be found by a sensor, which the daemon evaluates.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from qupersync_assets.core.quiet_hours import last_quiet
from qupersync_assets.postgres.cluster_connections import Connection, ConnectionState, failed_connections
from qupersync_assets.postgres.job_status import is_usable
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.sync_logs import SYNC_LOGS
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.settings import Settings
from qupersync_assets.sync.dagster_state import FRESH_SECONDS, SCHEDULE_NAME, DagsterState
from qupersync_assets.sync.job_choice import jobs_by_cluster
from qupersync_assets.sync.problems import Problem, Severity, in_utc

# A run is queued while other runs of its cluster or the limit of runs hold it back.
QUEUE_SECONDS = 900
# A sync takes some time, and the daemon starts it up to half a minute late.
_EXTRA_SECONDS = 120
# How far back a success is looked for; the log has older ones.
_HISTORY = timedelta(days=7)
_REPORTED = (SyncStatus.FAILED, SyncStatus.PARTIAL)
_SUCCESSFUL = (SyncStatus.SUCCESS, SyncStatus.PARTIAL, SyncStatus.UNAVAILABLE)
_START = "`make up`, or the container or service of dagster-daemon"


def find_problems(
    dagster: DagsterState,
    postgres: PostgresResource,
    settings: Settings,
    watched_since: datetime | None,
    *,
    with_failed: bool,
) -> list[Problem]:
    """Return what keeps syncs from succeeding now; a problem that explains others stands for them.

    A job that never succeeded counts from its first run, or from `watched_since` if it had none, and a daemon that
    starts as late as this process is no problem. None says that this process looks once: a daemon that has stopped is a
    problem, and one that never ran is none. `with_failed` includes jobs whose last run failed, and clusters that
    cannot be reached: the runs report these too.

    Raises:
        SyncError: PostgreSQL cannot be reached.
    """
    now = datetime.now(UTC)
    problems = [*_schedule(dagster), *_queue(dagster, now)]
    looks_once = watched_since is None and dagster.heartbeat.age is not None
    if looks_once or (now - (watched_since or now)).total_seconds() > FRESH_SECONDS:
        problems += _daemon(dagster, now)
    return problems or list(_missing(postgres, settings, now, watched_since or now, with_failed))


def connection_problem(cluster: str, failed: Connection, jobs: Sequence[str] = ()) -> Problem:
    """Return the problem of a cluster whose last login failed."""
    refused = failed.state is ConnectionState.REFUSED
    retry = f"The next scheduled attempt is after {in_utc(failed.next_check_at)}, or when "
    return Problem(
        f"{cluster} connection {failed.state}",
        "Redshift refuses the login" if refused else "Redshift is unreachable",
        failed.error,
        retry + ("the login changes." if refused else "the cluster answers."),
        cluster=cluster,
        jobs=tuple(jobs),
        since=failed.since,
    )


def _daemon(dagster: DagsterState, now: datetime) -> Iterator[Problem]:
    pulse = dagster.heartbeat
    if not pulse.fresh:
        action = f"No sync starts without it. Start the daemon: {_START}. If its process hangs, end it first."
        since = now - timedelta(seconds=pulse.age) if pulse.age else None
        yield Problem("daemon", "no Dagster daemon is running", f"{_sentence(pulse.text)}.", action, since=since)


def _schedule(dagster: DagsterState) -> Iterator[Problem]:
    if not dagster.schedule_on:
        action = "To sync again, switch it on in the Dagster UI, under Automation."
        cause = f"A user has switched off the schedule {SCHEDULE_NAME}: no sync starts."
        yield Problem("schedule", "the schedule is switched off", cause, action, Severity.WARNING)


def _queue(dagster: DagsterState, now: datetime) -> Iterator[Problem]:
    if dagster.queued_run is None:
        return
    run_id, since = dagster.queued_run
    if (now - since).total_seconds() > QUEUE_SECONDS:
        cause = f"Run {run_id} has been queued for more than {QUEUE_SECONDS // 60} minutes."
        action = "End runs that hang in the Dagster UI, and check the limit of runs in dagster.yaml."
        yield Problem("queue", "runs are queued and do not start", cause, action, since=since)


def _missing(
    postgres: PostgresResource, settings: Settings, now: datetime, watched_since: datetime, with_failed: bool
) -> Iterator[Problem]:
    if not is_usable(postgres):
        return
    jobs = {cluster: [spec.sync_job_id for spec in specs] for cluster, specs in jobs_by_cluster(settings).items()}
    allowed = {
        (cluster, job): timedelta(seconds=settings.sync_max_missed * settings.interval(cluster, job) + _EXTRA_SECONDS)
        for cluster, names in jobs.items()
        for job in names
    }
    with postgres.transaction() as connection:
        last = _last_runs(connection, now - _HISTORY - 2 * max(allowed.values()))
        failed = failed_connections(connection)
    for cluster, names in jobs.items():
        known = {job: last.get((cluster, job), _Last(watched_since, None)) for job in names}
        quiet = last_quiet(settings.by_cluster()[cluster].quiet_hours, now.astimezone(settings.time_zone()))
        if quiet:  # no success is expected in quiet hours
            known = {job: of._replace(success_at=max(of.success_at, quiet)) for job, of in known.items()}
        late = {job: of for job, of in known.items() if now - of.success_at > allowed[cluster, job]}
        if not with_failed:
            late = {job: of for job, of in late.items() if of.status not in _REPORTED}
        if not late or (cluster in failed and (not with_failed or failed[cluster].is_paused)):
            continue
        if cluster in failed:
            yield connection_problem(cluster, failed[cluster], tuple(late))
            continue
        intervals = f"{settings.sync_max_missed} intervals"
        yield Problem(
            f"{cluster} no success",
            f"no success for {intervals}",
            f"{len(late)} of {len(names)} jobs had no success for more than {intervals}.",
            "See the newest runs in the Dagster UI, and whether the code location is loaded there.",
            cluster=cluster,
            jobs=tuple(late),
            since=min(of.success_at for of in late.values()),
        )


class _Last(NamedTuple):
    success_at: datetime  # or the start of the first run
    status: str | None  # of the last run that ended


def _last_runs(connection: sa.Connection, since: datetime) -> Mapping[tuple[str, str], _Last]:
    """Return the last runs of each job of each cluster that started after `since`."""
    c = SYNC_LOGS.c
    success = sa.func.max(c.completed_at).filter(c.status.in_(_SUCCESSFUL))
    newest = sa.func.array_agg(aggregate_order_by(c.status, c.id.desc())).filter(c.completed_at.is_not(None))
    rows = sa.select(c.cluster, c.sync_job_id, sa.func.coalesce(success, sa.func.min(c.started_at)), newest)
    rows = rows.where(c.started_at > since).group_by(c.cluster, c.sync_job_id)
    return {(cluster, job): _Last(at, (ended or [None])[0]) for cluster, job, at, ended in connection.execute(rows)}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
