"""One run of the sync job in this process: executed in a thread, watched, and stopped at once by Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NoReturn, Self

import dagster as dg

from qupersync_assets.cli.console import note
from qupersync_assets.cli.progress import view
from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.signals import STOP_SIGNALS, stop_on_signals, uninterrupted
from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import JOB_NAME, TRIGGER_TAG, asset_key
from qupersync_assets.defs.run_health import close_logs
from qupersync_assets.postgres.job_status import Log, log_rows
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec

LOOK_SECONDS = 0.3


class OneShot:
    """Runs sync jobs, one cluster after the other, in a Dagster instance, or without one in an instance that
    forgets."""

    def __init__(
        self,
        settings: Settings,
        postgres: PostgresResource,
        specs: Sequence[SyncSpec],
        instance: dg.DagsterInstance | None,
    ) -> None:
        self._postgres = postgres
        self._specs = specs
        self._several = len(settings.by_cluster()) > 1
        self._job = build_definitions(settings).resolve_job_def(JOB_NAME)
        self._stack = ExitStack()
        self._instance = instance or self._stack.enter_context(dg.DagsterInstance.ephemeral())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, cluster: str, *, full_refresh: bool, verbose: bool) -> list[Log]:
        """Run the jobs for a cluster; return the row of quper.sync_logs of each.

        Raises:
            SyncError: quper.sync_logs cannot be read.
        """
        run_id = str(uuid.uuid4())
        keys = [asset_key(spec) for spec in self._specs]
        level = "DEBUG" if verbose else "CRITICAL"
        config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": level}}}}
        if full_refresh:
            config["ops"] = {"__".join(key.path): {"config": {"full_refresh": True}} for key in keys}

        def rows() -> list[Log]:
            found = log_rows(self._postgres, [cluster], run_ids=[run_id])
            return sorted(found, key=lambda row: str(row["sync_job_id"]))

        def execute() -> None:
            self._job.execute_in_process(
                config,
                instance=self._instance,
                partition_key=cluster if self._several else None,
                raise_on_error=False,
                asset_selection=keys,
                run_id=run_id,
                tags={TRIGGER_TAG: "cli"},
            )

        if self._several:
            note(f"Cluster {cluster}:")
        try:
            _watch(execute, [spec.sync_job_id for spec in self._specs], rows)
        except KeyboardInterrupt:
            self._stop(cluster, run_id)
        self._close_logs(cluster, run_id)
        return rows()

    def _stop(self, cluster: str, run_id: str) -> NoReturn:
        """Note that the run was stopped, and end this process at once, as a kill would: what was committed
        stays."""
        with uninterrupted():
            run = self._instance.get_run_by_id(run_id)
            if run and not run.is_finished:
                self._instance.report_run_canceled(run, "Stopped on the command line.")
            self._close_logs(cluster, run_id)
            note("Stopped. Rows of batches that were committed stay.")
            sys.stdout.flush()
            os._exit(130)  # the thread may wait for a server for long

    def _close_logs(self, cluster: str, run_id: str) -> None:
        """What broke off before its first statement, or was stopped, has left no row in quper.sync_logs, or
        an open one."""
        record = self._instance.get_run_record_by_id(run_id)
        if record and record.dagster_run.is_finished and not record.dagster_run.is_success:
            close_logs(self._instance, self._postgres, cluster, self._specs, record)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Meanwhile Ctrl-C and SIGTERM raise KeyboardInterrupt."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    stop_on_signals()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _watch(execute: Callable[[], None], jobs: Sequence[str], rows: Callable[[], Sequence[Log]]) -> None:
    """Execute in a thread of its own, and show how far it has come. In the main thread Dagster would take
    Ctrl-C for an error of the step, which is retried, and a driver that waits for a server would not let it
    through."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            execute()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    with _stoppable(), view(jobs) as shown:
        thread.start()
        while thread.is_alive():
            thread.join(LOOK_SECONDS)
            with suppress(SyncError):  # the run itself tells of it
                shown.show(rows())
    for error in errors:
        raise error
