"""What Dagster knows of sync runs: which are going, which are dead, and how the ended ones ended.

Dagster's default run launcher has no health check: a run whose process and code server were both killed stays
STARTED for ever. Nothing of ours may wait for such a run.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster_shared.error import SerializableErrorInfo

from qupersync_assets.core.redaction import redact
from qupersync_assets.defs.names import JOB_NAME, asset_key
from qupersync_assets.postgres import sync_logs
from qupersync_assets.postgres.advisory_lock import locked_jobs
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.sync_logs import SyncStatus
from qupersync_assets.spec import SyncSpec

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

FAILED_STATUSES = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def unfinished(instance: dg.DagsterInstance, specs: Sequence[SyncSpec]) -> list[RunRecord]:
    """Runs of sync jobs that are queued or going, or look like it: of all, of one, or of assets by hand."""
    jobs = {JOB_NAME, *(spec.sync_job_id for spec in specs)}
    keys = {asset_key(spec) for spec in specs}
    return [
        record
        for record in instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED))
        if record.dagster_run.job_name in jobs or (record.dagster_run.asset_selection or set()) & keys
    ]


def is_dead(instance: dg.DagsterInstance, record: RunRecord, max_silence: float) -> bool:
    """Whether an unfinished run will never end by itself.

    Args:
        max_silence: seconds without any event after which a run that nobody vouches for is dead.
    """
    run = record.dagster_run
    if run.status == dg.DagsterRunStatus.QUEUED:
        return False  # the daemon will take it up
    if run.status in (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED):
        alive = _worker_alive(instance, run)
        if alive:
            return False
        if alive is False and run.status == dg.DagsterRunStatus.STARTED:
            return True  # one that is starting may not be known yet
    last = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    sign_of_life = max([record.update_timestamp.timestamp(), *(r.timestamp for r in last)])
    return time.time() - sign_of_life > max_silence


def _worker_alive(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool | None:
    """Whether the run's process lives; None if nobody can tell."""
    launcher = instance.run_launcher
    if launcher.supports_check_run_worker_health:
        status = launcher.check_run_worker_health(run).status
        return None if status == WorkerStatus.UNKNOWN else status == WorkerStatus.RUNNING
    if GRPC_INFO_TAG not in run.tags:
        return None
    # The default launcher's runs are processes of a code server, which knows them.
    import grpc
    from dagster._core.errors import DagsterUserCodeUnreachableError
    from dagster._grpc.client import DagsterGrpcClient
    from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
    from dagster_shared.serdes import deserialize_value

    server = json.loads(run.tags[GRPC_INFO_TAG])
    client = DagsterGrpcClient(
        host=server.get("host"),
        port=server.get("port"),
        socket=server.get("socket"),
        use_ssl=bool(server.get("use_ssl")),
    )
    try:
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=5)
    except DagsterUserCodeUnreachableError as error:
        # On a socket nobody listens any more. Another machine may be slow, or the network, or it comes again.
        cause = error.__cause__
        refused = isinstance(cause, grpc.RpcError) and cause.code() == grpc.StatusCode.UNAVAILABLE
        return False if server.get("socket") and refused else None
    if not deserialize_value(answer, CanCancelExecutionResult).can_cancel:
        return False
    # A server whose run died while PostgreSQL was away claims for ever to have it. Where its processes can be
    # seen, one looks for oneself.
    return not (_sees_processes_of(server) and _process_gone(instance, run))


def _sees_processes_of(server: Mapping[str, Any]) -> bool:
    """Whether the processes of a code server are among those that one sees from here.

    They are if it listens on a socket, or is this very process, as where a schedule or a sensor is evaluated.
    Containers may share an address, and not see each other's processes.
    """
    if server.get("socket"):
        return True
    # Of DagsterGrpcServer in dagster._grpc.server.
    if all(thread.name != "grpc-server-termination" for thread in threading.enumerate()):
        return False
    try:
        for family, kind, _, _, address in socket.getaddrinfo(server["host"], 0, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind) as probe:
                probe.bind(address)  # which only an address of one's own allows
    except OSError:
        return False
    return True


def _process_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the process that the run has told of no longer exists on this machine."""
    kind = dg.DagsterEventType.ENGINE_EVENT
    for record in instance.get_records_for_run(run.run_id, of_type=kind, limit=10).records:
        event = record.event_log_entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event else None
        if pid is not None:
            try:
                os.kill(int(str(pid.value)), 0)
            except ProcessLookupError:
                return True
            except PermissionError:
                pass  # it is there, and somebody else's
            return False
    return False


def failed_jobs(
    instance: dg.DagsterInstance, run: dg.DagsterRun, specs: Sequence[SyncSpec]
) -> dict[str, str]:
    """Of the jobs that an ended run was to do: those without success, and why."""
    jobs = {asset_key(spec): spec.sync_job_id for spec in specs}
    steps = {"__".join(key.path): job for key, job in jobs.items()}
    word = "terminated" if run.status == dg.DagsterRunStatus.CANCELED else "the run broke off"
    errors: dict[str, str] = {}
    done = set()
    kinds = {
        dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        dg.DagsterEventType.ASSET_MATERIALIZATION,
        dg.DagsterEventType.STEP_FAILURE,
    }
    for entry in instance.all_logs(run.run_id, of_type=kinds):
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.STEP_FAILURE:
            error = event.step_failure_data.error
            if event.step_key in steps:
                errors[steps[event.step_key]] = redact(reason(error)) if error else word
        elif event.asset_key in jobs:
            if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
                done.add(jobs[event.asset_key])
            else:
                errors.setdefault(jobs[event.asset_key], word)
    return {job: error for job, error in errors.items() if job not in done}


def reason(error: SerializableErrorInfo) -> str:
    """The sentence of our Failure or SyncError below what Dagster says of retries; else the innermost
    error."""
    sentences = ("Failure", "SyncError")
    while error.cause is not None and error.cls_name not in sentences:
        error = error.cause
    text = error.message.strip()
    return text.partition(": ")[2] if error.cls_name in sentences else text


def close_logs(
    instance: dg.DagsterInstance,
    postgres: PostgresResource,
    cluster: str,
    specs: Sequence[SyncSpec],
    record: RunRecord,
) -> int:
    """Close, or add, the quper.sync_logs rows of a run that ended without success; return how many."""
    run = record.dagster_run
    errors = failed_jobs(instance, run, specs)
    canceled = run.status == dg.DagsterRunStatus.CANCELED
    status = SyncStatus.CANCELED if canceled else SyncStatus.FAILED
    started = record.start_time or record.create_timestamp.timestamp()
    ended = record.end_time or record.update_timestamp.timestamp()
    with postgres.transaction() as connection:
        closed = sync_logs.close_run(connection, cluster, run.run_id, errors, status, started, ended)
        sync_logs.mark_stale(
            connection, cluster, run.run_id, status, "the run ended without closing this row"
        )
    return closed


def close_stale_rows(
    instance: dg.DagsterInstance,
    postgres: PostgresResource,
    cluster: str,
    specs: Sequence[SyncSpec],
    max_silence: float,
    own_run_id: str | None = None,
) -> None:
    """Close the log rows of these jobs that say `running` though their run has ended; a run whose process has
    died is reported as failed to Dagster first.

    Of a run that this instance does not know, another one's perhaps, only jobs that nobody loads are
    closed."""
    jobs = [s.sync_job_id for s in specs]
    with postgres.transaction() as connection:
        run_ids = sync_logs.running(connection, cluster, jobs)
    for run_id in sorted(run_ids - {own_run_id or ""}):
        record = instance.get_run_record_by_id(run_id)
        if record is None:
            with postgres.transaction() as connection:
                loading = locked_jobs(connection, cluster, jobs)
                unknown = "Dagster does not know this run"
                sync_logs.mark_stale(
                    connection, cluster, run_id, SyncStatus.FAILED, unknown, except_for=loading
                )
            continue
        if not record.dagster_run.is_finished and is_dead(instance, record, max_silence):
            instance.report_run_failed(record.dagster_run, "The process of this run has died.")
            record = instance.get_run_record_by_id(run_id) or record
        if record.dagster_run.is_finished:
            close_logs(instance, postgres, cluster, specs, record)
