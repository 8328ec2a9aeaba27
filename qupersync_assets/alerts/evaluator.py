"""Decides whether an ended run is worth an alert."""

from collections.abc import Sequence

import dagster as dg

from qupersync_assets.alerts.apprise_notifier import Alert
from qupersync_assets.core.redaction import redact
from qupersync_assets.defs.names import asset_key
from qupersync_assets.defs.partitions import cluster_of_run
from qupersync_assets.defs.run_health import Kind, failed_jobs, reason, run_events
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec


def evaluate(
    instance: dg.DagsterInstance, specs: Sequence[SyncSpec], settings: Settings, run: dg.DagsterRun, notified: set[str]
) -> tuple[Alert | None, set[str]]:
    """Return the alert for an ended run, None if nothing new failed; and the failures that persist.

    `notified` are failures that were reported and have not recovered since.
    """
    cluster = cluster_of_run(run, list(settings.by_cluster()))
    jobs = _failed_jobs(instance, specs, run)
    loaded, checks = _results(instance, specs, run)
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
    base = settings.ui_url
    link = f": {base.rstrip('/')}/runs/{run.run_id}" if base else "."
    lines = [
        f"Run {run.run_id} of {run.job_name}{link}",  # first, because services cut long texts
        *(redact(" ".join(line.split())) for line in failures.values()),
        "A failure that persists is reported once, until it has recovered.",
    ]
    title = redact(f"QuperSync{f', cluster {cluster}' if cluster else ''}: {what} failed")
    return Alert(title, "\n".join(lines)), persistent


def _failed_jobs(instance: dg.DagsterInstance, specs: Sequence[SyncSpec], run: dg.DagsterRun) -> dict[str, str]:
    """Return each sync job that the run did not complete, and why; for other jobs their own name."""
    if run.is_success:
        return {}
    if jobs := failed_jobs(instance, run, specs):
        return jobs
    errors = [event.step_failure_data.error for event in run_events(instance, run, Kind.STEP_FAILURE)]
    return {run.job_name: next((reason(error) for error in errors if error), "the run broke off")}


def _results(
    instance: dg.DagsterInstance, specs: Sequence[SyncSpec], run: dg.DagsterRun
) -> tuple[set[str], dict[str, str | None]]:
    """Return the sync jobs that the run completed; and its checks, None for those that passed."""
    jobs = {asset_key(spec): spec.sync_job_id for spec in specs}
    loaded: set[str] = set()
    checks: dict[str, str | None] = {}
    for event in run_events(instance, run, Kind.ASSET_MATERIALIZATION, Kind.ASSET_CHECK_EVALUATION):
        if event.event_type == Kind.ASSET_MATERIALIZATION:
            if event.asset_key in jobs:
                loaded.add(jobs[event.asset_key])
            continue
        evaluation = event.asset_check_evaluation_data
        if job := jobs.get(evaluation.asset_key):
            kind = "warning" if evaluation.severity is dg.AssetCheckSeverity.WARN else "error"
            text = f"{kind}, {evaluation.description or 'without a reason'}"
            checks[f"{job}, check {evaluation.check_name}"] = None if evaluation.passed else text
    return loaded, checks
