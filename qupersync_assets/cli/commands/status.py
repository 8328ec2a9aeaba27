"""`qupersync status`: last and next run of each job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from qupersync_assets.cli.arguments import Cluster, select_clusters
from qupersync_assets.cli.console import Json, exit_on_errors, out, print_block, print_json, print_line
from qupersync_assets.cli.summary import name_some, plain_table, print_errors, style_of
from qupersync_assets.core.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qupersync_assets.postgres.job_status import JobState
    from qupersync_assets.settings import Settings
    from qupersync_assets.sync.dagster_state import DagsterState
    from qupersync_assets.sync.overview import Checks, Overview


def status(cluster: Cluster = None, as_json: Json = False) -> None:
    """Print what needs attention, the last and the next run of each job, the lag of its table, and its checks.

    A job needs attention if its last run failed or left out a database, if a check has an error, or if it had
    no success for SYNC_MAX_MISSED intervals although the schedule is on; the exit code is then 1, and also if
    the daemon has stopped, or runs are queued and do not start. `lag` is the age of the newest row of a history
    table, and the time since the last read of a snapshot table. The schedule, the daemon and the queue are those of
    the Dagster instance of DAGSTER_HOME, or of `make up` in this folder. Times are UTC.
    """
    with exit_on_errors(as_json):
        from qupersync_assets.cli.dagster_state import dagster_state
        from qupersync_assets.postgres.resource import postgres_resource
        from qupersync_assets.settings import Settings
        from qupersync_assets.sync.overview import read_overview

        settings = Settings.load(logins=False)
        clusters = select_clusters(settings, cluster)
        postgres = postgres_resource(settings)
        dagster = dagster_state(settings, postgres)
        overview = read_overview(settings, postgres, clusters, dagster)
        states, checks, ok = overview.states, overview.checks, overview.ok
        schedule = _schedule(settings, states[0].now, dagster)
        others = [str(problem) for problem in overview.general_errors]
        if as_json:
            is_paused = schedule["on"] is False
            jobs = [
                {
                    **_as_json(state, None if is_paused else _next_run(settings, state), checks),
                    "needs_attention": overview.attention.get((state.cluster, state.sync_job_id)),
                }
                for state in states
            ]
            print_json({"ok": ok, "problems": others, "schedule": schedule, "jobs": jobs})
        else:
            console = out()
            several = len(settings.by_cluster()) > 1
            if overview.attention or not others:
                print_line(console, _headline(overview, several), "red" if overview.attention else "green")
            for text in others:
                print_line(console, text, "red")
            print_line(console, _next_sync(states[0].now, schedule))
            for name in clusters:
                title = f"\nCluster {name}" if several else None
                _print_jobs(console, title, [state for state in states if state.cluster == name], checks)
    raise typer.Exit(0 if ok else 1)


def _headline(overview: Overview, several: bool) -> str:
    if not overview.attention:
        return "No job needs attention."
    jobs: dict[str, list[str]] = {}
    for (cluster, job), why in overview.attention.items():
        jobs.setdefault(why, []).append(f"{cluster} {job}" if several else job)
    named = [f"{name_some(names)} ({why})" for why, names in jobs.items()]
    on = sum(not state.is_off for state in overview.states)
    count = len(overview.attention)
    return f"{count} of {on} jobs need{'s' if count == 1 else ''} attention: {', '.join(named)}"


def _schedule(settings: Settings, now: datetime, dagster: DagsterState | None) -> dict[str, Any]:
    """Return the state of the schedule; `on` and `daemon` are None without an instance."""
    from qupersync_assets.sync.dagster_state import SCHEDULE_NAME
    from qupersync_assets.sync.due import next_sync
    from qupersync_assets.sync.job_choice import cluster_interval

    on = daemon = None
    if dagster:
        on, pulse = dagster.schedule_on, dagster.heartbeat
        daemon = {"fresh": pulse.fresh, "heartbeat_seconds": pulse.age, "detail": pulse.text}
    return {
        "name": SCHEDULE_NAME,
        "interval_seconds": min(cluster_interval(settings, cluster) for cluster in settings.by_cluster()),
        "on": on,
        "next_run": None if on is False else next_sync(settings, now),
        "daemon": daemon,
    }


def _next_run(settings: Settings, state: JobState) -> datetime | None:
    from qupersync_assets.sync.due import next_sync

    return None if state.is_off else next_sync(settings, state.now, state.cluster, state.sync_job_id)


def _as_json(state: JobState, next_run: datetime | None, checks: Checks) -> dict[str, Any]:
    return {
        "cluster": state.cluster,
        "sync_job_id": state.sync_job_id,
        "status": state.status,
        "running": state.running,
        "last_run": state.last,
        "last_success_at": state.last_success_at,
        "failures_since_success": state.failures,
        "next_run": next_run,
        "lag_seconds": state.lag,
        "seconds_since_success": (state.now - at).total_seconds() if (at := state.last_success_at) else None,
        "checks": checks.get((state.cluster, state.sync_job_id)),
    }


def _print_jobs(console: Console, title: str | None, states: Sequence[JobState], checks: Checks) -> None:
    headings = ("job", "last run", "ago", "took", "extracted", "lag", "checks")
    table = plain_table(headings, ("took", "extracted"), title)
    for state in states:
        log = state.running or state.last
        table.add_row(
            state.sync_job_id,
            state.status,
            format_duration(state.now - (log["completed_at"] or log["started_at"]) if log else None),
            format_duration((log["duration_ms"] or 0) / 1000 if log and not state.running else None),
            f"{log['rows_extracted']:,}" if log else "-",
            format_duration(state.lag),
            "-" if state.is_off else _check_summary(checks.get((state.cluster, state.sync_job_id), {})),
            style=style_of(log["status"] if log and not state.is_off else None),
        )
    print_block(console, table)
    on = [state for state in states if not state.is_off]
    print_errors(console, [state.last for state in on if state.last])
    print_errors(console, [state.running for state in on if state.running])  # an attempt failed, another one follows
    for state in on:
        for name, check in checks.get((state.cluster, state.sync_job_id), {}).items():
            if style := {"error": "red", "warning": "yellow"}.get(check["status"] or ""):
                print_line(console, f"{state.sync_job_id}, {name}: {check['text']}", style)


def _next_sync(now: datetime, schedule: dict[str, Any]) -> str:
    """Return a sentence about the next sync."""
    if schedule["on"] is False:
        return f"No next sync: {schedule['name']} is switched off."
    due = schedule["next_run"].astimezone(UTC)
    text = f"Next sync in {format_duration(due - now)}, at {due:%H:%M:%S} UTC"
    if schedule["on"] is None:
        return f"{text}, if a daemon runs (unknown: DAGSTER_HOME is not set)."
    daemon = schedule["daemon"]
    return f"{text}." if daemon["fresh"] else f"No next sync: {daemon['detail']}."


def _check_summary(checks: Mapping[str, Mapping[str, str | None]]) -> str:
    statuses = [check["status"] for check in checks.values()]
    for kind in ("error", "warning"):
        if count := statuses.count(kind):
            return f"{count} {kind}{'s' if count > 1 else ''}"
    return "ok" if "passed" in statuses else "unknown" if statuses else "-"
