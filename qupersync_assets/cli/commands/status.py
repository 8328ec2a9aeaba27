"""`qupersync status` and `qupersync history`: what the jobs did, and what comes next."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qupersync_assets.cli.arguments import chosen, chosen_clusters, moment
from qupersync_assets.cli.console import (
    Cluster,
    Json,
    out,
    plain_table,
    print_json,
    reported,
    short,
    style_of,
)

# Name of a check -> its last evaluation, by cluster and job.
Checks = dict[tuple[str, str], dict[str, dict[str, Any]]]

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dagster as dg
    from rich.console import Console
    from rich.table import Table

    from qupersync_assets.postgres.job_status import JobState, Log
    from qupersync_assets.settings import Settings
    from qupersync_assets.spec import SyncSpec


def status(cluster: Cluster = None, as_json: Json = False) -> None:
    """Print the last and the next run of every job, how far its table lags behind, and its checks.

    `lag` is the age of a history's newest row, and of a snapshot the time since it was read. The checks, and
    whether the schedule is on, are known to the Dagster instance alone (DAGSTER_HOME, or that of `make up` in
    this folder).
    """
    with reported(as_json):
        from qupersync_assets.defs.instance import configured_instance
        from qupersync_assets.defs.resources import postgres_resource
        from qupersync_assets.postgres.job_status import job_states
        from qupersync_assets.settings import Settings

        settings, specs = Settings.load(), chosen(None)
        clusters = chosen_clusters(settings, cluster)
        states = job_states(postgres_resource(settings), clusters, specs)
        with configured_instance(settings) as instance:
            schedule = _schedule(settings, states[0].now, instance)
            checks = _checks(instance, settings, clusters, specs) if instance else {}
        if as_json:
            print_json(
                {"schedule": schedule, "jobs": [_as_json(state, schedule, checks) for state in states]}
            )
        else:
            _print_status(settings, states, schedule, checks)


def _schedule(settings: Settings, now: datetime, instance: dg.DagsterInstance | None) -> dict[str, Any]:
    """What keeps the syncs going: on or off (None: nobody knows), when it is due next, and the daemon's
    heartbeat."""
    from qupersync_assets.defs.instance import heartbeat
    from qupersync_assets.defs.schedules import INTERVAL_NAME, SCHEDULE_NAME, cron_for, next_sync

    name = SCHEDULE_NAME if cron_for(settings.sync_interval) else INTERVAL_NAME
    on = daemon = None
    if instance:
        # Who has never been switched by hand has the status of its definition, which is on.
        stored = {state.instigator_name: state.is_running for state in instance.all_instigator_state()}
        on = stored.get(name, True)
        pulse = heartbeat(instance)
        daemon = {"fresh": pulse.fresh, "heartbeat_seconds": pulse.age, "detail": str(pulse)}
    due = None if on is False else next_sync(settings, now)
    return {
        "name": name,
        "interval_seconds": settings.sync_interval,
        "on": on,
        "next_run": due,
        "daemon": daemon,
    }


def _checks(
    instance: dg.DagsterInstance, settings: Settings, clusters: Sequence[str], specs: Sequence[SyncSpec]
) -> Checks:
    """The latest completed evaluation of each check."""
    from qupersync_assets.defs.asset_checks import check_specs
    from qupersync_assets.defs.dagster_internals import latest_evaluations
    from qupersync_assets.defs.names import asset_key

    jobs = {
        check.key: spec.sync_job_id
        for spec in specs
        for check in check_specs(asset_key(spec), spec, settings)
    }
    found: Checks = {}
    for cluster in clusters:
        partition = cluster if len(settings.by_cluster()) > 1 else None
        latest = latest_evaluations(instance, list(jobs), partition)
        for key, job in jobs.items():
            found.setdefault((cluster, job), {})[key.name] = _evaluated(latest.get(key))
    return found


def _evaluated(latest: tuple[dg.AssetCheckEvaluation, datetime] | None) -> dict[str, Any]:
    if latest is None:
        return {"status": "unknown", "text": None, "evaluated_at": None}
    evaluation, evaluated_at = latest
    fault = "warning" if evaluation.severity.value == "WARN" else "error"
    return {
        "status": "passed" if evaluation.passed else fault,
        "text": evaluation.description,
        "evaluated_at": evaluated_at,
    }


def _as_json(state: JobState, schedule: dict[str, Any], checks: Checks) -> dict[str, Any]:
    return {
        "cluster": state.cluster,
        "sync_job_id": state.sync_job_id,
        "running": state.running,
        "last_run": state.last,
        "last_success_at": state.last_success_at,
        "failures_since_success": state.failures,
        "next_run": schedule["next_run"],
        "lag_seconds": state.lag,
        "seconds_since_success": state.since_success,
        "checks": checks.get((state.cluster, state.sync_job_id)),
    }


def _print_status(
    settings: Settings, states: Sequence[JobState], schedule: dict[str, Any], checks: Checks
) -> None:
    console = out()
    console.print(_next(settings, states[0].now, schedule), markup=False, soft_wrap=True)
    for cluster in dict.fromkeys(state.cluster for state in states):
        title = f"\nCluster {cluster}" if len(settings.by_cluster()) > 1 else None
        headings = ("job", "last run", "ago", "took", "rows", "lag", "checks")
        table = plain_table(headings, ("took", "rows"), title)
        own = [state for state in states if state.cluster == cluster]
        for state in own:
            _add_row(table, state, checks.get((cluster, state.sync_job_id)))
        console.print(table)
        for state in own:
            _print_faults(console, state, checks.get((cluster, state.sync_job_id), {}))


def _add_row(table: Table, state: JobState, checks: dict[str, Any] | None) -> None:
    log = state.running or state.last
    table.add_row(
        state.sync_job_id,
        log["status"] if log else "never",
        short(state.now - (log["completed_at"] or log["started_at"])) if log else "-",
        short((log["duration_ms"] or 0) / 1000) if log and not state.running else "-",
        f"{log['rows_extracted']:,}" if log else "-",
        short(state.lag),
        _verdict(checks),
        style=style_of(log["status"] if log else None),
    )


def _print_faults(console: Console, state: JobState, checks: dict[str, Any]) -> None:
    if state.last and state.last["error"]:
        text = f"{state.sync_job_id}: {state.last['error']}"
        console.print(text, style=style_of(state.last["status"]), markup=False, soft_wrap=True)
    for name, check in checks.items():
        if check["status"] in ("warning", "error"):
            style = "red" if check["status"] == "error" else "yellow"
            text = f"{state.sync_job_id}, {name}: {check['text']}"
            console.print(text, style=style, markup=False, soft_wrap=True)


def _next(settings: Settings, now: datetime, schedule: dict[str, Any]) -> str:
    """When the next sync is, in a sentence."""
    if schedule["on"] is False:
        return f"{schedule['name']} is switched off: no sync is due."
    due = schedule["next_run"].astimezone(settings.time_zone())
    text = f"Next sync in {short(schedule['next_run'] - now)}, at {due:%H:%M:%S %Z}"
    if schedule["on"] is None:
        return f"{text}, if a daemon runs: DAGSTER_HOME is not set, so nobody can tell."
    daemon = schedule["daemon"]
    return f"{text}." if daemon["fresh"] else f"{text}, but {daemon['detail']}."


def _verdict(checks: dict[str, Any] | None) -> str:
    if not checks:
        return "-"
    statuses = [check["status"] for check in checks.values()]
    for kind in ("error", "warning"):
        if count := statuses.count(kind):
            return f"{count} {kind}{'s' if count > 1 else ''}"
    return "ok" if "passed" in statuses else "unknown"


class Status(StrEnum):
    """Those of quper.sync_logs."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELED = "canceled"
    UNAVAILABLE = "unavailable"
    SKIPPED = "skipped"


def history(
    job: Annotated[
        list[str] | None, typer.Option(help="Only of this job (sync_job_id or table); repeatable.")
    ] = None,
    status: Annotated[list[Status] | None, typer.Option(help="Only with this status; repeatable.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=moment, metavar="TIME|DURATION", help="Only started since: 2026-11-24T12:00Z, 2h, 7d."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 20,
    cluster: Cluster = None,
    as_json: Json = False,
) -> None:
    """Print what quper.sync_logs has of past runs, the newest first; times are UTC."""
    with reported(as_json):
        from qupersync_assets.defs.resources import postgres_resource
        from qupersync_assets.postgres.job_status import log_rows
        from qupersync_assets.settings import Settings

        jobs = [spec.sync_job_id for spec in chosen(job)] if job else []
        settings = Settings.load()
        rows = log_rows(
            postgres_resource(settings),
            chosen_clusters(settings, cluster),
            jobs=jobs,
            statuses=[s.value for s in status or []],
            since=since,
            limit=limit,
        )
        if as_json:
            print_json(rows)
        else:
            _print_history(rows)


def _print_history(rows: Sequence[Log]) -> None:
    console = out()
    if not rows:
        console.print("There are no such runs in quper.sync_logs.")
        return
    # Of one cluster nobody needs to be told the name.
    several = len({row["cluster"] for row in rows}) > 1
    numbers = ("took", "read", "written", "skipped")
    table = plain_table(
        ("started (UTC)", *(["cluster"] if several else []), "job", "status", *numbers), numbers
    )
    for row in rows:
        counts = (row["rows_extracted"], row["rows_inserted"] + row["rows_updated"], row["rows_skipped"])
        table.add_row(
            f"{row['started_at'].astimezone(UTC):%m-%d %H:%M:%S}",
            *([row["cluster"]] if several else []),
            row["sync_job_id"],
            row["status"],
            short(row["duration_ms"] / 1000) if row["duration_ms"] is not None else "-",
            *(f"{count:,}" for count in counts),
            style=style_of(row["status"]),
        )
    console.print(table)
    for row in rows:
        if row["error"]:
            when = f"{row['started_at'].astimezone(UTC):%m-%d %H:%M:%S}"
            text = f"{when} {row['sync_job_id']}: {row['error']}"
            console.print(text, style=style_of(row["status"]), markup=False, soft_wrap=True)
