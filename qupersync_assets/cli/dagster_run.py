"""Runs the sync job of a cluster in this process, recorded in a Dagster instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import JOB_NAME, TRIGGER_TAG, asset_key
from qupersync_assets.defs.run_health import close_logs
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec


class DagsterRun:
    """The runs of one command; see `sync_run.Runner`."""

    def __init__(
        self,
        settings: Settings,
        postgres: PostgresResource,
        instance: dg.DagsterInstance,
        specs: Sequence[SyncSpec],
        *,
        full_refresh: bool,
        verbose: bool,
    ) -> None:
        self._postgres = postgres
        self._instance = instance
        self._specs = specs
        self._job = build_definitions(settings).resolve_job_def(JOB_NAME)
        self._is_partitioned = len(settings.by_cluster()) > 1
        level = "DEBUG" if verbose else "CRITICAL"
        self._config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": level}}}}
        if full_refresh:
            steps = ("__".join(asset_key(spec).path) for spec in specs)
            self._config["ops"] = {step: {"config": {"full_refresh": True}} for step in steps}

    def run(self, cluster: str, run_id: str) -> None:
        """Run the job; a failure is in its log rows."""
        self._job.execute_in_process(
            self._config,
            instance=self._instance,
            partition_key=cluster if self._is_partitioned else None,
            raise_on_error=False,
            asset_selection=[asset_key(spec) for spec in self._specs],
            run_id=run_id,
            tags={TRIGGER_TAG: "cli"},
        )
        record = self._instance.get_run_record_by_id(run_id)
        if record and record.dagster_run.is_finished and not record.dagster_run.is_success:
            close_logs(self._instance, self._postgres, cluster, self._specs, record)

    def cancel(self, run_id: str, reason: str) -> None:
        """Report to Dagster that a person has stopped the run."""
        run = self._instance.get_run_by_id(run_id)
        if run and not run.is_finished:
            self._instance.report_run_canceled(run, f"The command line was {reason}.")
