"""Finds sync runs whose process died, and closes the quper.sync_logs rows of runs that did not succeed.

Dagster's run monitoring asks the launcher for the health of forked runs, and ends dead ones. It does not know the
health of runs that a code server or a command has started: if their process was killed, it ends them only after
`dagster/max_runtime`. Such a run counts as dead earlier, if its process holds no lock in PostgreSQL and it gave no
sign of life for `Settings.max_silence` seconds. The locks are those of the run (see `living_runs`) and of the jobs
that it loads, so the clock and the machine of the run do not matter.

A run whose machine is suspended loses its locks and counts as dead. The data stay correct: no second load of a job
starts before the lock of the first is released.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import dagster as dg

from qupersync_assets.core.redaction import redact
from qupersync_assets.defs.names import STANDALONE, Placement
from qupersync_assets.defs.own_runs import is_own, is_sync, selects_assets
from qupersync_assets.defs.partitions import cluster_of_run
from qupersync_assets.postgres import sync_logs
from qupersync_assets.postgres.advisory_lock import locked_jobs
from qupersync_assets.postgres.process_lock import living_runs
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.serve.run_launcher import ForkingRunLauncher, is_forked
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec

Kind = dg.DagsterEventType
Status = dg.DagsterRunStatus

UNFINISHED_STATUSES = [Status.QUEUED, Status.NOT_STARTED, Status.STARTING, Status.STARTED, Status.CANCELING]
FAILED_STATUSES = [Status.FAILURE, Status.CANCELED]


def unfinished_runs(
    instance: dg.DagsterInstance, specs: Sequence[SyncSpec], placement: Placement = STANDALONE
) -> list[dg.RunRecord]:
    """Return the unfinished runs of sync jobs: of all jobs, of one job, or of selected assets."""
    return [
        record
        for record in instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED_STATUSES))
        if is_sync(record.dagster_run, specs, placement) or selects_assets(record.dagster_run, specs, placement)
    ]


def dead_runs(
    instance: dg.DagsterInstance,
    postgres: PostgresResource,
    clusters: Sequence[str],
    specs: Sequence[SyncSpec],
    records: Iterable[dg.RunRecord],
    max_silence: float,
) -> list[dg.RunRecord]:
    """Return those of the runs that cannot finish, because their process died.

    A run whose process holds the lock of the run, or loads a job, is alive, on whichever machine. Another one is dead
    if it had no event and ended no load for `max_silence` seconds. Runs of other clusters are not checked.

    Raises:
        SyncError: PostgreSQL cannot be reached; it is asked only if a run is silent.
    """
    silent = {
        record.dagster_run.run_id: record
        for record in records
        if cluster_of_run(record.dagster_run, clusters) in (*clusters, None)
        and _is_silent(instance, record, max_silence)
    }
    if not silent:
        return []
    jobs = [spec.sync_job_id for spec in specs]
    with postgres.transaction() as connection:
        active = living_runs(connection, silent)
        for cluster in clusters:
            locked = locked_jobs(connection, cluster, jobs)
            active |= sync_logs.active_runs(connection, cluster, list(silent), jobs, locked, max_silence)
    return [record for run_id, record in silent.items() if run_id not in active]


def _is_silent(instance: dg.DagsterInstance, record: dg.RunRecord, max_silence: float) -> bool:
    """Return whether an unfinished run depends on a process that gave no event for too long."""
    run = record.dagster_run
    if run.is_finished or run.status == Status.QUEUED:
        return False
    if _is_monitored(instance, run):
        return False  # Dagster's run monitoring asks the launcher, and ends the run
    latest = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    last_event = max([record.update_timestamp.timestamp(), *(r.timestamp for r in latest)])
    return time.time() - last_event > max_silence


def _is_monitored(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether the launcher knows the health of a run."""
    launcher = instance.run_launcher
    if isinstance(launcher, ForkingRunLauncher):
        return is_forked(run)  # the code server or a command has started others
    return launcher.supports_check_run_worker_health


def run_events(instance: dg.DagsterInstance, run: dg.DagsterRun, *kinds: Kind) -> Iterator[dg.DagsterEvent]:
    """Yield the events of a run that have one of these types."""
    for entry in instance.all_logs(run.run_id, of_type=set(kinds)):
        if entry.dagster_event:
            yield entry.dagster_event


def step_timeout_message(seconds: int) -> str:
    """Return why a step was killed, for the event and for people."""
    return f"{_TIMEOUT} ({seconds} s), and was killed"


_TIMEOUT = "It took longer than SYNC_STEP_TIMEOUT"
_INTERRUPTS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")
_SIGNAL = "Multiprocess executor: received termination signal"
_RUN_CRASH = "Run execution process for"
_CRASH = "Multiprocess executor: child process for step"


def report_crash(instance: dg.DagsterInstance, run_id: str, how: str) -> None:
    """Report the end of a run whose process could not do it; `how` describes the end of the process."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return
    message = f"{_RUN_CRASH} {run_id} {how}"
    if run.status == Status.CANCELING:
        instance.report_run_canceled(run, message)
    else:
        instance.report_engine_event(message, run)
        instance.report_run_failed(run)


def remaining_jobs(
    instance: dg.DagsterInstance, run: dg.DagsterRun, specs: Sequence[SyncSpec], placement: Placement = STANDALONE
) -> set[str] | None:
    """Return the jobs that an unfinished run has planned and not ended; None if it has not planned any yet."""
    jobs = {placement.asset_key(spec): spec.sync_job_id for spec in specs}
    steps = {"__".join(key.path): job for key, job in jobs.items()}
    planned: set[str] = set()
    ended: set[str] = set()
    for event in run_events(instance, run, Kind.ASSET_MATERIALIZATION_PLANNED, Kind.STEP_SUCCESS, Kind.STEP_FAILURE):
        if event.event_type == Kind.ASSET_MATERIALIZATION_PLANNED:
            planned |= {jobs[event.asset_key]} if event.asset_key in jobs else set()
        elif event.step_key in steps:
            ended.add(steps[event.step_key])
    return planned - ended if planned else None


def failed_jobs(
    instance: dg.DagsterInstance, run: dg.DagsterRun, specs: Sequence[SyncSpec], placement: Placement = STANDALONE
) -> dict[str, str]:
    """Return the planned jobs of a finished run that did not succeed, each with the reason."""
    jobs = {placement.asset_key(spec): spec.sync_job_id for spec in specs}
    steps = {"__".join(key.path): job for key, job in jobs.items()}
    default = why_failed(instance, run)
    errors: dict[str, str] = {}
    crashes: dict[str, str] = {}
    done = set()
    kinds = (
        *(Kind.ASSET_MATERIALIZATION_PLANNED, Kind.ASSET_MATERIALIZATION),
        *(Kind.STEP_FAILURE, Kind.STEP_UP_FOR_RETRY, Kind.ENGINE_EVENT),
    )
    for event in run_events(instance, run, *kinds):
        key = event.step_key or ""
        if event.event_type == Kind.STEP_FAILURE:
            if key in steps:
                error = event.step_failure_data.error
                errors[steps[key]] = crashes.get(key) or (redact(reason(error)) if error else default)
        elif event.event_type == Kind.STEP_UP_FOR_RETRY:
            crashes.pop(key, None)
        elif event.event_type == Kind.ENGINE_EVENT:
            message = event.message or ""
            if message.startswith(_TIMEOUT):
                crashes[key] = message
            elif message.startswith(_CRASH):
                how = message.removeprefix(_CRASH).strip().removeprefix(key).strip()
                crashes.setdefault(key, f"Its process {how.partition('. ')[0].rstrip('.')}.")
        elif event.asset_key in jobs:
            if event.event_type == Kind.ASSET_MATERIALIZATION:
                done.add(jobs[event.asset_key])
            else:
                errors.setdefault(jobs[event.asset_key], default)
    return {job: error for job, error in errors.items() if job not in done}


def why_failed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return Dagster's reason why a run did not succeed, from the event that ended it.

    A run that a person has terminated gives "terminated".
    """
    if run.status == Status.CANCELED:
        return "terminated"
    crash = ""
    for event in run_events(instance, run, Kind.RUN_FAILURE, Kind.ENGINE_EVENT):
        text = (event.message or "").strip()
        if event.event_type == Kind.ENGINE_EVENT:
            # The event of the failure says only that it was reported from outside.
            crash = crash or text.partition(f"{_RUN_CRASH} {run.run_id} ")[2]
            continue
        if crash:
            return f"The process of the run {crash.partition('. ')[0].rstrip('.')}."
        error = getattr(event.event_specific_data, "error", None)
        if error is not None and error.message:
            text = f"{text} {reason(error)}"
        return redact(" ".join(text.split())) or _UNKNOWN
    return _UNKNOWN


_UNKNOWN = "Dagster gives no reason; the process of the run may have been killed."


def was_interrupted(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether a run ended because its processes were asked to stop, as by a restart."""
    for event in run_events(instance, run, Kind.RUN_FAILURE, Kind.STEP_FAILURE, Kind.ENGINE_EVENT):
        if event.event_type == Kind.ENGINE_EVENT:
            if (event.message or "").startswith(_SIGNAL):
                return True
            continue
        why = getattr(event.event_specific_data, "failure_reason", None)
        error = getattr(event.event_specific_data, "error", None)
        while error is not None and error.cls_name not in _INTERRUPTS:
            error = error.cause
        if error is not None or (why is not None and why.value == "UNEXPECTED_TERMINATION"):
            return True
    return False


def reason(error: Any) -> str:
    """Return the message of the Failure or SyncError among the causes of a step's error, else of the innermost."""
    own_errors = ("Failure", "SyncError")
    while error.cause is not None and error.cls_name not in own_errors:
        error = error.cause
    text = str(error.message).strip()
    return text.partition(": ")[2] if error.cls_name in own_errors else text


def close_logs(
    instance: dg.DagsterInstance,
    postgres: PostgresResource,
    cluster: str,
    specs: Sequence[SyncSpec],
    record: dg.RunRecord,
    placement: Placement = STANDALONE,
) -> int:
    """Close or add the quper.sync_logs rows of a run that finished without success; return their number."""
    run = record.dagster_run
    errors = failed_jobs(instance, run, specs, placement)
    status = SyncStatus.CANCELED if run.status == Status.CANCELED else SyncStatus.FAILED
    started = record.start_time or record.create_timestamp.timestamp()
    ended = record.end_time or record.update_timestamp.timestamp()
    with postgres.transaction() as connection:
        closed = sync_logs.close_run(connection, cluster, run.run_id, errors, status, started, ended)
        sync_logs.mark_stale(connection, cluster, run.run_id, status, "the run ended without closing this row")
    return closed


def close_stale_rows(
    instance: dg.DagsterInstance,
    postgres: PostgresResource,
    specs: Sequence[SyncSpec],
    settings: Settings,
    placement: Placement = STANDALONE,
) -> None:
    """Report dead runs to Dagster as failed, and close the running rows of all finished runs, also of clusters that
    the settings no longer name. Runs of other code are not reported, even if they load tables.

    Rows of a run that this Dagster instance does not know, perhaps of another instance, are closed if no
    process executes the run or loads their job.
    """
    jobs = [spec.sync_job_id for spec in specs]
    with postgres.transaction() as connection:
        clusters = list(dict.fromkeys([*settings.by_cluster(), *sync_logs.running_clusters(connection)]))
        running = {cluster: sync_logs.running(connection, cluster, jobs) for cluster in clusters}
    records = {record.dagster_run.run_id: record for record in unfinished_runs(instance, specs, placement)}
    for run_id in set().union(*running.values()) - records.keys():
        if record := instance.get_run_record_by_id(run_id):
            records[run_id] = record
    own = [record for record in records.values() if is_own(record.dagster_run, specs, settings, placement)]
    for dead in dead_runs(instance, postgres, clusters, specs, own, settings.max_silence):
        run_id = dead.dagster_run.run_id
        instance.report_run_failed(dead.dagster_run, "The process of this run has died.")
        records[run_id] = instance.get_run_record_by_id(run_id) or dead
    for cluster, run_ids in running.items():
        for run_id in sorted(run_ids):
            if run_id not in records:
                with postgres.transaction() as connection:
                    locked = locked_jobs(connection, cluster, jobs)
                    if not living_runs(connection, [run_id]):
                        error = "Dagster does not know this run"
                        sync_logs.mark_stale(connection, cluster, run_id, SyncStatus.FAILED, error, except_for=locked)
            elif records[run_id].dagster_run.is_finished:
                close_logs(instance, postgres, cluster, specs, records[run_id], placement)
