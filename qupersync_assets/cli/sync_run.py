"""Runs sync jobs in this process, with progress on stderr; Ctrl-C ends them at once."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import Protocol
from uuid import uuid4

from qupersync_assets.cli.console import is_quiet, note
from qupersync_assets.cli.progress import progress_view
from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.log_format import LineFormatter
from qupersync_assets.core.signals import stop_on_signals, uninterrupted
from qupersync_assets.postgres.job_status import Log, log_rows
from qupersync_assets.postgres.process_lock import living_run
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.direct_run import run_jobs, stop_jobs

POLL_SECONDS = 0.3


class Runner(Protocol):
    """How the jobs of a cluster are run: by Dagster, or directly."""

    def run(self, cluster: str, run_id: str) -> None:
        """Run the jobs and return when all have ended; their rows of quper.sync_logs say how."""

    def cancel(self, run_id: str, reason: str) -> None:
        """Report that a person has stopped the run."""


class DirectRun:
    """Runs jobs without Dagster."""

    def __init__(
        self,
        settings: Settings,
        postgres: PostgresResource,
        specs: Sequence[SyncSpec],
        *,
        full_refresh: bool,
        verbose: bool,
    ) -> None:
        self._options = (settings, postgres)
        self._specs = specs
        self._full_refresh = full_refresh
        self._log = logging.getLogger("qupersync")
        self._log.propagate = False
        self._log.handlers = [logging.StreamHandler() if verbose else logging.NullHandler()]
        self._log.handlers[0].setFormatter(LineFormatter())
        self._log.setLevel(logging.DEBUG)

    def run(self, cluster: str, run_id: str) -> None:
        """Load the jobs one after the other."""
        run_jobs(*self._options, cluster, self._specs, run_id, self._log, full_refresh=self._full_refresh)

    def cancel(self, run_id: str, reason: str) -> None:
        """Do nothing: the rows of quper.sync_logs are all that is known of the run."""


def run_sync(
    runner: Runner, settings: Settings, postgres: PostgresResource, clusters: Sequence[str], specs: Sequence[SyncSpec]
) -> list[Log]:
    """Run sync jobs, one cluster after the other; return their rows of quper.sync_logs, each with `check_errors`:
    the checks that have an error, with their texts.

    Raises:
        SyncError: quper.sync_logs cannot be read.
    """
    stop_on_signals()
    logs: list[Log] = []
    for cluster in clusters:
        run_id, started = str(uuid4()), time.time()
        read_rows = partial(log_rows, postgres, [cluster], run_ids=[run_id])
        if len(settings.by_cluster()) > 1:
            note(f"Cluster {cluster}:")
        try:
            with living_run(postgres.engine(), run_id):
                _execute(partial(runner.run, cluster, run_id), [spec.sync_job_id for spec in specs], read_rows)
        except KeyboardInterrupt as interrupt:
            with uninterrupted():
                reason = str(interrupt) or "stopped"
                runner.cancel(run_id, reason)
                stop_jobs(postgres, cluster, run_id, specs, reason, started)
                note(f"{reason[0].upper()}{reason[1:]}. Committed batches stay in the target.")
                sys.stdout.flush()
                os._exit(130)  # the thread may wait long for a server
        logs += [{**row, "check_errors": _errors(row)} for row in sorted(read_rows(), key=_job)]
    return logs


def _job(row: Log) -> str:
    return str(row["sync_job_id"])


def _errors(row: Log) -> dict[str, str]:
    return {name: check["text"] for name, check in (row["checks"] or {}).items() if check["status"] == "error"}


def _execute(execute: Callable[[], object], jobs: Sequence[str], read_rows: Callable[[], Sequence[Log]]) -> None:
    """Execute in a separate thread and show the progress.

    In the main thread Dagster would treat Ctrl-C as an error of the step and retry it, and a driver that
    waits for a server would block it.
    """
    run = ThreadPoolExecutor(1).submit(execute)
    pending = {run}
    with progress_view([] if is_quiet() else jobs) as update:
        while pending:
            pending = wait(pending, POLL_SECONDS).not_done
            if is_quiet():
                continue
            with suppress(SyncError):  # the run itself reports it
                update(read_rows())
    run.result()
