"""Results of checks: of one run, with a tag for errors, and the latest ones of each job.

The rows of a load are committed before its checks are evaluated. The run therefore succeeds; the tag says in the list
of runs that a check has an error.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from qupersync_assets.defs.asset_checks import check_specs
from qupersync_assets.defs.dagster_internals import latest_evaluations
from qupersync_assets.defs.names import CHECK_ERROR_TAG, asset_key
from qupersync_assets.defs.run_health import Kind, run_events
from qupersync_assets.postgres.job_status import JobState
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec

# Latest evaluation of each check, by cluster and job, then by name.
Checks = Mapping[tuple[str, str], dict[str, dict[str, Any]]]

# Steps of a run that add their tags at the same moment overwrite each other's.
_ATTEMPTS = 5


def tag_check_errors(context: dg.AssetExecutionContext, spec: SyncSpec, results: Sequence[dg.AssetCheckResult]) -> None:
    """Add a tag to the run if checks of a job have an error, and write them to the log of the run."""
    errors = [result for result in results if not result.passed and result.severity is dg.AssetCheckSeverity.ERROR]
    for result in errors:
        context.log.error(f"{spec.sync_job_id}, check {result.check_name}: {result.description}")
    tag = {CHECK_ERROR_TAG + spec.sync_job_id: ", ".join(str(result.check_name) for result in errors)}
    for _ in range(_ATTEMPTS if errors else 0):
        context.instance.add_run_tags(context.run.run_id, tag)
        run = context.instance.get_run_by_id(context.run.run_id)
        if run is None or tag.items() <= run.tags.items():
            return


def check_errors(instance: dg.DagsterInstance, run_id: str, specs: Sequence[SyncSpec]) -> dict[str, dict[str, str]]:
    """Return, by sync_job_id, the checks that had an error in a run, each with its text."""
    jobs = {asset_key(spec): spec.sync_job_id for spec in specs}
    found: dict[str, dict[str, str]] = {}
    run = instance.get_run_by_id(run_id)
    for event in run_events(instance, run, Kind.ASSET_CHECK_EVALUATION) if run else ():
        evaluation = event.asset_check_evaluation_data
        if not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR:
            text = evaluation.description or "error"
            found.setdefault(jobs[evaluation.asset_key], {})[evaluation.check_name] = text
    return found


def latest_checks(
    instance: dg.DagsterInstance, settings: Settings, clusters: Sequence[str], specs: Sequence[SyncSpec]
) -> Checks:
    """Return the latest evaluation of each check: its `status` (passed, warning, error or unknown), `text` and
    `evaluated_at`. Planned ones do not count."""
    jobs = {check.key: spec.sync_job_id for spec in specs for check in check_specs(asset_key(spec), spec, settings)}
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for cluster in clusters:
        partition = cluster if len(settings.by_cluster()) > 1 else None
        latest = latest_evaluations(instance, list(jobs), partition)
        for key, job in jobs.items():
            found.setdefault((cluster, job), {})[key.name] = _evaluation(latest.get(key))
    return found


def _evaluation(latest: tuple[dg.AssetCheckEvaluation, datetime] | None) -> dict[str, Any]:
    if latest is None:
        return {"status": "unknown", "text": None, "evaluated_at": None}
    evaluation, evaluated_at = latest
    severity = "warning" if evaluation.severity.value == "WARN" else "error"
    result = "passed" if evaluation.passed else severity
    return {"status": result, "text": evaluation.description, "evaluated_at": evaluated_at}


def leave_out_old(checks: Checks, states: Sequence[JobState]) -> None:
    """Forget the results of checks that are older than a run that ended before its checks."""
    for state in states:
        if state.last and state.last["status"] in (SyncStatus.FAILED, SyncStatus.CANCELED):
            for check in checks.get((state.cluster, state.sync_job_id), {}).values():
                if check["evaluated_at"] and check["evaluated_at"] < state.last["started_at"]:
                    check.update(_evaluation(None))
