"""Decides which alerts an ended run is worth: one per cause, whatever the number of jobs, and one when it is over."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg

from qupersync_assets.alerts.apprise_notifier import Alert
from qupersync_assets.alerts.open_problems import OpenProblems, end, is_sent, report, wanted
from qupersync_assets.core.errors import PAUSED
from qupersync_assets.defs.names import STANDALONE, Placement
from qupersync_assets.defs.partitions import cluster_of_run
from qupersync_assets.defs.run_health import Kind, failed_jobs, reason, run_events, was_interrupted, why_failed
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.problems import Problem, Severity

_ACTION = "See docs/operations.md, Symptoms and fixes."
_CHECK_ACTION = "See the check in the Dagster UI, and docs/operations.md, Symptoms and fixes."
# Parts that differ between two occurrences of one cause: identifiers, times, addresses and counts, but no SQLSTATE.
_CHANGING = re.compile(r"(?<!SQLSTATE )\b(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\d.:]*\d[\d.:]*)\b")
_SUMMARY_CHARACTERS = 90


def evaluate(
    instance: dg.DagsterInstance,
    specs: Sequence[SyncSpec],
    settings: Settings,
    run: dg.DagsterRun,
    open_problems: OpenProblems,
    placement: Placement = STANDALONE,
) -> list[Alert]:
    """Return the alerts for an ended run, and change the problems that were reported and are not over.

    A run whose processes were asked to stop, as by a restart, reports no problem: the next one does, if there is one.
    """
    cluster = cluster_of_run(run, list(settings.by_cluster()))
    base = settings.ui_url
    link = f"Run: {base.rstrip('/')}/runs/{run.run_id}" if base else f"Run: {run.run_id} of {run.job_name}"
    jobs = {placement.asset_key(spec): spec.sync_job_id for spec in specs}
    failed = {} if run.is_success else _failed_jobs(instance, failed_jobs(instance, run, specs, placement), run)
    problems = [] if was_interrupted(instance, run) else list(_problems(instance, failed, jobs, run, cluster))
    done, passed = _done(instance, jobs, run)
    if run.is_success:
        done.add(run.job_name)
    alerts = []
    for key in list(open_problems):
        if not key.startswith(f"{cluster} "):
            continue
        # A job that fails for another reason has recovered from this one.
        kind = key.removeprefix(f"{cluster} ").partition(" ")
        over = passed.get(kind[2], set()) if kind[0] == "check" else done
        others = {job for problem in problems if problem.key != key for job in problem.jobs}
        if kind[0] != "check":
            over = over | others
        same = {job for problem in problems if problem.key == key for job in problem.jobs}
        alerts.append(end(open_problems, key, over - same))
    alerts += [
        report(open_problems, problem, link) for problem in problems if is_sent(problem, settings.alert_severity)
    ]
    return wanted(alerts)


def _problems(
    instance: dg.DagsterInstance,
    failed: Mapping[str, str],
    own_jobs: Mapping[dg.AssetKey, str],
    run: dg.DagsterRun,
    cluster: str | None,
) -> Iterator[Problem]:
    """Yield the causes of failed jobs, and of failed checks."""
    since = datetime.now(UTC)
    failures: dict[str, Problem] = {}
    connections = _connections(instance, own_jobs, run)
    for job, cause in failed.items():
        state, problem = connections.get(job, ("", ""))
        if state:
            is_refused = state == "refused"
            summary = "Redshift refuses the login" if is_refused else "Redshift is unreachable"
            key = f"{cluster} connection {state}"
            action = "Change the login, or the user in Redshift." if is_refused else "Resume or repair the cluster."
            action += " Scheduled syncs wait longer after each failed attempt: see docs/operations.md."
            severity = Severity.WARNING if problem == PAUSED else Severity.ERROR
        else:
            same = _CHANGING.sub("#", cause)
            key, summary, action, severity = f"{cluster} cause {same}", _summary(cause), _ACTION, Severity.ERROR
        before = failures.get(key)
        jobs = (*(before.jobs if before else ()), job)
        failures[key] = Problem(key, summary, before.cause if before else cause, action, severity, cluster, jobs, since)
    yield from failures.values()
    checks: dict[str, list[tuple[str, dg.AssetCheckEvaluation]]] = {}
    for job, evaluation in _evaluations(instance, own_jobs, run):
        if not evaluation.passed:
            checks.setdefault(evaluation.check_name, []).append((job, evaluation))
    for name, results in checks.items():
        is_error = any(e.severity is dg.AssetCheckSeverity.ERROR for _, e in results)
        severity = Severity.ERROR if is_error else Severity.WARNING
        cause = " ".join(f"{job}: {e.description or 'without a reason'}" for job, e in results)
        jobs = tuple(job for job, _ in results)
        yield Problem(
            f"{cluster} check {name}", f"check {name} failed", cause, _CHECK_ACTION, severity, cluster, jobs, since
        )


def _summary(cause: str) -> str:
    """Return the beginning of a cause, for a title."""
    first = re.split(r"(?<=[^.])[.;] ", " ".join(cause.split()))[0]
    return first if len(first) <= _SUMMARY_CHARACTERS else f"{first[:_SUMMARY_CHARACTERS]}..."


def _failed_jobs(instance: dg.DagsterInstance, failed: dict[str, str], run: dg.DagsterRun) -> dict[str, str]:
    """Return each sync job that the run did not complete, and why; for other jobs their own name."""
    if failed:
        return failed
    errors = [event.step_failure_data.error for event in run_events(instance, run, Kind.STEP_FAILURE)]
    return {run.job_name: next((reason(error) for error in errors if error), why_failed(instance, run))}


def _connections(
    instance: dg.DagsterInstance, own_jobs: Mapping[dg.AssetKey, str], run: dg.DagsterRun
) -> dict[str, tuple[str, str]]:
    """Return the sync jobs that could not log in to their cluster, each with the state of the connection and why."""
    steps = {"__".join(key.path): job for key, job in own_jobs.items()}
    found = {}
    for event in run_events(instance, run, Kind.STEP_FAILURE):
        failure = event.step_failure_data.user_failure_data
        texts = {name: str(value.value) for name, value in failure.metadata.items()} if failure else {}
        if texts.get("connection") and event.step_key in steps:
            found[steps[event.step_key]] = (texts["connection"], texts.get("problem", ""))
    return found


def _done(
    instance: dg.DagsterInstance, own_jobs: Mapping[dg.AssetKey, str], run: dg.DagsterRun
) -> tuple[set[str], dict[str, set[str]]]:
    """Return the sync jobs that the run completed; and those that passed each check."""
    events = run_events(instance, run, Kind.ASSET_MATERIALIZATION)
    done = {own_jobs[key] for event in events if (key := event.asset_key) and key in own_jobs}
    passed: dict[str, set[str]] = {}
    for job, evaluation in _evaluations(instance, own_jobs, run):
        if evaluation.passed:
            passed.setdefault(evaluation.check_name, set()).add(job)
    return done, passed


def _evaluations(
    instance: dg.DagsterInstance, own_jobs: Mapping[dg.AssetKey, str], run: dg.DagsterRun
) -> Iterator[tuple[str, dg.AssetCheckEvaluation]]:
    for event in run_events(instance, run, Kind.ASSET_CHECK_EVALUATION):
        evaluation = event.asset_check_evaluation_data
        if job := own_jobs.get(evaluation.asset_key):
            yield job, evaluation
