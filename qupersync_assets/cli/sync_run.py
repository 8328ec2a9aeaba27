"""Runs the sync job in this process, with progress on stderr; Ctrl-C ends it at once."""

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any
from uuid import uuid4

import dagster as dg

from qupersync_assets.cli.console import note
from qupersync_assets.cli.progress import progress_view
from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.signals import stop_on_signals, uninterrupted
from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.check_results import check_errors
from qupersync_assets.defs.names import JOB_NAME, TRIGGER_TAG, asset_key
from qupersync_assets.defs.run_health import close_logs
from qupersync_assets.postgres.job_status import Log, log_rows
from qupersync_assets.postgres.process_lock import living_run
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec

POLL_SECONDS = 0.3


def run_sync(
    settings: Settings,
    postgres: PostgresResource,
    instance: dg.DagsterInstance | None,
    clusters: Sequence[str],
    specs: Sequence[SyncSpec],
    *,
    full_refresh: bool,
    verbose: bool,
) -> list[Log]:
    """Run sync jobs, one cluster after the other; return their rows of quper.sync_logs, each with `check_errors`:
    the checks that have an error, with their texts.

    Without an instance the runs are recorded in an ephemeral one.

    Raises:
        SyncError: quper.sync_logs cannot be read.
    """
    job = build_definitions(settings).resolve_job_def(JOB_NAME)
    is_partitioned = len(settings.by_cluster()) > 1
    keys = [asset_key(spec) for spec in specs]
    level = "DEBUG" if verbose else "CRITICAL"
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": level}}}}
    if full_refresh:
        config["ops"] = {"__".join(key.path): {"config": {"full_refresh": True}} for key in keys}
    stop_on_signals()
    logs: list[Log] = []
    with nullcontext(instance) if instance else dg.DagsterInstance.ephemeral() as used:
        for cluster in clusters:
            run_id = str(uuid4())
            read_rows = partial(log_rows, postgres, [cluster], run_ids=[run_id])
            close = partial(_close_rows, used, postgres, cluster, specs, run_id)
            execute = partial(
                job.execute_in_process,
                config,
                instance=used,
                partition_key=cluster if is_partitioned else None,
                raise_on_error=False,
                asset_selection=keys,
                run_id=run_id,
                tags={TRIGGER_TAG: "cli"},
            )
            if is_partitioned:
                note(f"Cluster {cluster}:")
            try:
                with living_run(postgres.engine(), run_id):
                    _execute(execute, [spec.sync_job_id for spec in specs], read_rows)
            except KeyboardInterrupt:
                with uninterrupted():
                    run = used.get_run_by_id(run_id)
                    if run and not run.is_finished:
                        used.report_run_canceled(run, "Stopped on the command line.")
                    close()
                    note("Stopped. Committed batches stay in the target.")
                    sys.stdout.flush()
                    os._exit(130)  # the thread may wait long for a server
            close()
            errors = check_errors(used, run_id, specs)
            rows = sorted(read_rows(), key=lambda row: str(row["sync_job_id"]))
            logs += [{**row, "check_errors": errors.get(row["sync_job_id"], {})} for row in rows]
    return logs


def _close_rows(
    instance: dg.DagsterInstance, postgres: PostgresResource, cluster: str, specs: Sequence[SyncSpec], run_id: str
) -> None:
    """Close, or add, the rows of jobs of a failed run that did not close theirs."""
    record = instance.get_run_record_by_id(run_id)
    if record and record.dagster_run.is_finished and not record.dagster_run.is_success:
        close_logs(instance, postgres, cluster, specs, record)


def _execute(execute: Callable[[], object], jobs: Sequence[str], read_rows: Callable[[], Sequence[Log]]) -> None:
    """Execute in a separate thread and show the progress.

    In the main thread Dagster would treat Ctrl-C as an error of the step and retry it, and a driver that
    waits for a server would block it.
    """
    run = ThreadPoolExecutor(1).submit(execute)
    pending = {run}
    with progress_view(jobs) as update:
        while pending:
            pending = wait(pending, POLL_SECONDS).not_done
            with suppress(SyncError):  # the run itself reports it
                update(read_rows())
    run.result()
