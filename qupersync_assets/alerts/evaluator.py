"""Decides whether an ended run is worth an alert."""

from collections.abc import Iterator, Sequence

import dagster as dg

from qupersync_assets.alerts.apprise_notifier import Alert
from qupersync_assets.core.redaction import redact
from qupersync_assets.defs.names import asset_key
from qupersync_assets.defs.partitions import cluster_of_run
from qupersync_assets.defs.run_health import failed_jobs, reason
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec


class AlertEvaluator:
    """Decides whether an ended run is worth an alert."""

    def __init__(self, instance: dg.DagsterInstance, specs: Sequence[SyncSpec], settings: Settings) -> None:
        self._instance = instance
        self._specs = specs
        self._settings = settings
        self._jobs = {asset_key(spec): spec.sync_job_id for spec in specs}

    def evaluate(self, run: dg.DagsterRun, notified: set[str]) -> tuple[Alert | None, set[str]]:
        """Return the alert, or None if nothing new failed; and the failures that persist.

        Args:
            notified: failures that were reported and have not recovered since.
        """
        cluster = cluster_of_run(run, list(self._settings.by_cluster()))
        jobs = dict(self._failed_jobs(run))
        loaded, checks = self._results(run)
        failed_checks = {name: text for name, text in checks.items() if text is not None}
        failures = {f"{cluster} {name}": f"{name}: {text}" for name, text in (jobs | failed_checks).items()}
        recovered = {f"{cluster} {name}" for name in (loaded | checks.keys()) - jobs.keys()}
        if run.is_success:
            recovered.add(f"{cluster} {run.job_name}")
        persistent = (notified - recovered) | failures.keys()
        if not failures.keys() - notified:
            return None, persistent
        counts = ((len(jobs), "job"), (len(failed_checks), "check"))
        what = " and ".join(f"{count} {name}{'s' if count > 1 else ''}" for count, name in counts if count)
        base = self._settings.ui_url
        link = f": {base.rstrip('/')}/runs/{run.run_id}" if base else "."
        alert = Alert(
            redact(f"QuperSync{f', cluster {cluster}' if cluster else ''}: {what} failed"),
            "\n".join(
                [
                    f"Run {run.run_id} of {run.job_name}{link}",  # first, because services cut long texts
                    *(redact(" ".join(line.split())) for line in failures.values()),
                    "A failure that persists is reported once, until it has recovered.",
                ]
            ),
        )
        return alert, persistent

    def _failed_jobs(self, run: dg.DagsterRun) -> Iterator[tuple[str, str]]:
        """Yield each sync job that the run did not complete, and why; for other jobs their own name."""
        if run.is_success:
            return
        jobs = failed_jobs(self._instance, run, self._specs)
        yield from jobs.items()
        if not jobs:
            errors = [
                reason(event.step_failure_data.error)
                for entry in self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
                if (event := entry.dagster_event) and event.step_failure_data.error
            ]
            yield run.job_name, errors[0] if errors else "the run broke off"

    def _results(self, run: dg.DagsterRun) -> tuple[set[str], dict[str, str | None]]:
        """Return the sync jobs that the run completed; and its checks, None for those that passed."""
        loaded: set[str] = set()
        checks: dict[str, str | None] = {}
        kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
        for entry in self._instance.all_logs(run.run_id, of_type=kinds):
            event = entry.dagster_event
            if event is None:
                continue
            if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
                if event.asset_key in self._jobs:
                    loaded.add(self._jobs[event.asset_key])
                continue
            evaluation = event.asset_check_evaluation_data
            job = self._jobs.get(evaluation.asset_key)
            if job is not None:
                kind = "warning" if evaluation.severity is dg.AssetCheckSeverity.WARN else "error"
                text = f"{kind}, {evaluation.description or 'without a reason'}"
                checks[f"{job}, check {evaluation.check_name}"] = None if evaluation.passed else text
        return loaded, checks
