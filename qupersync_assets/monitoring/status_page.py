"""The first page of the UI: whether all is well, and if not, what to do. It needs no script and no network."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from qupersync_assets.core.durations import format_duration
from qupersync_assets.core.errors import InstanceError, SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.health import readers
from qupersync_assets.health.signal import Severity
from qupersync_assets.monitoring.dagster_state import DagsterReader
from qupersync_assets.postgres.cluster_connections import Connection, failed_connections
from qupersync_assets.postgres.job_status import JobState, is_usable
from qupersync_assets.postgres.resource import PostgresResource, postgres_resource
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.settings import Settings, SettingsError
from qupersync_assets.sync.dagster_state import DagsterState
from qupersync_assets.sync.due import next_sync
from qupersync_assets.sync.job_choice import jobs_by_cluster
from qupersync_assets.sync.overview import Overview, read_overview
from qupersync_assets.sync.problems import Problem
from qupersync_assets.sync_jobs import spec_of

# The page loads itself again.
RELOAD_SECONDS = 15
# A reader does not wait longer for a page.
STATEMENT_SECONDS = 8
# Of the findings of a cluster only the worst are shown.
FIRST_FINDINGS = 3
# No script, and nothing from elsewhere, whatever a text of a server contains.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_FOLDER = Path(__file__).parent


class StatusPage:
    """Answers GET of `/` with the page, and leaves all other requests to the application of Dagster."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._source: Source | None = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            page = await run_in_threadpool(self._render)
            headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
            await HTMLResponse(page, headers=headers)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _render(self) -> str:
        with self._lock:  # one request at a time
            try:
                self._source = self._source or Source(Settings.load(logins=False))
                return render(self._source.read())
            except (SettingsError, SyncError, InstanceError) as error:
                return render(_unreadable(redact(str(error))))


class Source:
    """Reads what the page shows from PostgreSQL; Redshift is not contacted."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        limit = min(settings.postgres_statement_timeout, STATEMENT_SECONDS)
        self._postgres = postgres_resource(settings.model_copy(update={"postgres_statement_timeout": limit}))
        self._dagster = DagsterReader(settings)

    def read(self) -> dict[str, Any]:
        """Return the variables of the page.

        Raises:
            SyncError: PostgreSQL cannot be reached, or its schema has another version.
        """
        return describe(self._settings, self._postgres, self._dagster.read())


def describe(settings: Settings, postgres: PostgresResource, dagster: DagsterState | None) -> dict[str, Any]:
    """Return the variables of the page: verdict, problems, warnings, clusters and tables."""
    clusters = list(jobs_by_cluster(settings))
    overview = read_overview(settings, postgres, clusters, dagster)
    connections, findings = _cluster_facts(postgres, clusters)
    problems = list(_problems(overview))
    warnings = [*_warnings(overview, connections), *([] if dagster else [_UNKNOWN_DAGSTER])]
    on = [state for state in overview.states if not state.is_off]
    severity = "error" if problems else "warning" if warnings else "ok"
    last = max((state.last["completed_at"] for state in on if state.last), default=None)
    if not problems and last is None:
        verdict, severity = "Waiting for the first sync", "warning"
    elif severity == "ok":
        verdict = "All syncs are well"
    else:
        count = len(problems) or len(warnings)
        verdict = f"{count} {'problem' if problems else 'warning'}{'s' if count > 1 else ''}"
    now = overview.states[0].now
    is_paused = dagster is not None and not dagster.schedule_on
    return {
        "severity": severity,
        "verdict": verdict,
        "jobs": len(on),
        "succeeded": sum(state.last is not None and state not in overview.needy for state in on),
        "last": format_duration(now - last) if last else None,
        "next": None if is_paused else format_duration(next_sync(settings, now) - now),
        "problems": problems,
        "warnings": warnings,
        "clusters": [{"name": n, **findings.get(n, {})} for n in clusters] if settings.health_findings else [],
        "tables": [_table(state, overview, len(clusters) > 1) for state in on],
        "now": f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }


_UNKNOWN_DAGSTER = {
    "text": "Dagster's state cannot be read: it is not known whether the next sync starts.",
    "action": "See dagster-webserver.log in .qupersync/logs.",
}


def _unreadable(error: str) -> dict[str, Any]:
    problem = {"text": error, "action": "`qupersync doctor` lists problems, each with the setting that fixes it."}
    return {
        "severity": "error",
        "verdict": "The state of the syncs cannot be read",
        "jobs": 0,
        "problems": [problem],
        "warnings": [],
        "clusters": [],
        "tables": [],
        "now": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }


def _problem(problem: Problem, states: Sequence[JobState] = ()) -> dict[str, Any]:
    who = f"{_count(states)}: " if states else ""
    text = f"{who}{problem.summary[0].upper()}{problem.summary[1:]}. {problem.cause}"
    return {"text": text, "action": problem.action, "links": _links(states)}


def _problems(overview: Overview) -> Iterator[dict[str, Any]]:
    """Yield one problem for each cause, with the tables that it affects."""
    for problem in overview.general_errors:
        yield _problem(problem)
    for problem in overview.problems:
        jobs = [s for s in overview.states if s.cluster == problem.cluster and s.sync_job_id in problem.jobs]
        if jobs:
            yield _problem(problem, jobs)
    yield from _grouped((state, text) for state in overview.needy for text in _errors(state, overview))


def _errors(state: JobState, overview: Overview) -> Iterator[str]:
    """Yield why the last load of a job failed or left out databases, and its checks that have an error."""
    if state.last and state.last["error"] and state.last["status"] in (SyncStatus.FAILED, SyncStatus.PARTIAL):
        yield state.last["error"]
    for check in overview.checks.get((state.cluster, state.sync_job_id), {}).values():
        if check["status"] == "error":
            yield str(check["text"])


def _warnings(overview: Overview, connections: dict[str, Connection]) -> Iterator[dict[str, Any]]:
    for problem in overview.problems:
        if problem not in overview.general_errors and not problem.jobs:
            yield _problem(problem)
    for name, connection in connections.items():
        if not any(state.cluster == name for state in overview.needy):
            yield {"text": f"Cluster {name} is {connection.state}: {connection.error}"}
    retried = ((state, state.running["error"]) for state in overview.states if state.running)
    yield from _grouped((state, error) for state, error in retried if error)
    for state in overview.states:
        for name, check in overview.checks.get((state.cluster, state.sync_job_id), {}).items():
            if check["status"] == "warning":
                yield {"text": f"{_count([state])}, check {name}: {check['text']}", "links": _links([state])}


def _grouped(found: Iterable[tuple[JobState, str]]) -> Iterator[dict[str, Any]]:
    """Yield one entry for each text, with the tables of a cluster that have it."""
    groups: dict[tuple[str, str], list[JobState]] = {}
    for state, text in found:
        groups.setdefault((state.cluster, text), []).append(state)
    for (_, text), states in groups.items():
        yield {"text": f"{_count(states)}: {text}", "links": _links(states)}


def _count(states: Sequence[JobState]) -> str:
    """Return the name of one table, or the number of several, and their cluster."""
    name = _name(states[0]) if len(states) == 1 else f"{len(states)} tables"
    return f"{name} of cluster {states[0].cluster}"


def _cluster_facts(
    postgres: PostgresResource, clusters: Sequence[str]
) -> tuple[dict[str, Connection], dict[str, dict[str, Any]]]:
    """Return the clusters that cannot be reached; and of each cluster that was evaluated the numbers of its open
    findings by severity, and the worst ones."""
    if not is_usable(postgres):
        return {}, {}
    with postgres.transaction() as connection:
        failed = {name: found for name, found in failed_connections(connection).items() if name in clusters}
        counted = readers.summaries(connection, clusters)
        facts = {}
        for name in readers.evaluated_at(connection, clusters):
            sums = {kind: sum(int(row[kind]) for row in counted if row["cluster"] == name) for kind in Severity}
            worst = readers.open_findings(connection, [name], limit=FIRST_FINDINGS)
            facts[name] = {"counts": {str(kind): sums[kind] for kind in Severity if sums[kind]}, "first": worst}
        return failed, facts


def _table(state: JobState, overview: Overview, several: bool) -> dict[str, Any]:
    log = state.running or state.last
    statuses = [check["status"] for check in overview.checks.get((state.cluster, state.sync_job_id), {}).values()]
    worst = next((kind for kind in ("error", "warning") if kind in statuses), None)
    return {
        "name": f"{state.cluster}: {_name(state)}" if several else _name(state),
        "link": _links([state])[0]["address"],
        "status": state.status,
        "is_bad": (state.cluster, state.sync_job_id) in overview.attention,
        "ago": format_duration(state.now - (log["completed_at"] or log["started_at"]) if log else None),
        "rows": log["rows_extracted"] if log else None,
        "lag": format_duration(state.lag),
        "checks": worst or ("passed" if "passed" in statuses else "-"),
    }


def _name(state: JobState) -> str:
    return spec_of(state.sync_job_id).table.name


def _links(states: Sequence[JobState]) -> list[dict[str, str]]:
    return [{"name": name, "address": f"/assets/quper/{name}?view=checks"} for name in map(_name, states)]


def render(page: dict[str, Any]) -> str:
    """Return the page as HTML; texts are escaped."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = _breakable
    template = environment.from_string((_FOLDER / "status_page.html.j2").read_text("utf-8"))
    return template.render(page, css=(_FOLDER / "status_page.css").read_text("utf-8"), seconds=RELOAD_SECONDS)


def _breakable(name: str) -> Markup:
    """Allow line breaks in a name after _ and . on a narrow page."""
    return Markup(re.sub("([_.])", r"\1<wbr>", str(escape(name))))  # noqa: S704 (escaped)
