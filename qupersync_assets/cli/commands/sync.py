"""`qupersync sync`: run sync jobs once, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qupersync_assets.cli.arguments import Cluster, complete_jobs, select_clusters, select_jobs
from qupersync_assets.cli.console import Json, Quiet, busy, exit_on_errors, is_quiet, note, out, print_json, set_quiet
from qupersync_assets.postgres.sync_status import ACCEPTED

if TYPE_CHECKING:
    from qupersync_assets.cli.sync_run import Runner
    from qupersync_assets.postgres.resource import PostgresResource
    from qupersync_assets.settings import Settings


def sync(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JOB", help="sync_job_id or table; default: all jobs of SYNC_JOBS.", autocompletion=complete_jobs
        ),
    ] = None,
    cluster: Cluster = None,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", metavar="", help="Read everything that Redshift holds, not only new rows.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", metavar="", help="Write the log of the run to stderr.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Sync once, in this process, and print the result of each job.

    The run is recorded in the Dagster instance of DAGSTER_HOME, or of `make up` in this folder, and visible
    in its UI; without an instance it is in quper.sync_logs only. The exit code is 0 if the status of each job
    is success, unavailable (this kind of cluster has no source for it) or skipped (another run is loading
    it) and no check has an error; 1 if a job failed, left out a database or skipped too many rows, 2 if the
    command line is wrong, 130 if it was stopped with Ctrl-C.
    """
    set_quiet(quiet or is_quiet())
    with exit_on_errors(as_json), ExitStack() as stack:
        from qupersync_assets.cli.summary import print_summary
        from qupersync_assets.cli.sync_run import DirectRun, run_sync
        from qupersync_assets.postgres.resource import postgres_resource
        from qupersync_assets.settings import Settings
        from qupersync_assets.sync.dagster_state import find_home
        from qupersync_assets.sync.job_choice import jobs_on

        settings = Settings.load()
        clusters = select_clusters(settings, cluster)
        specs = select_jobs(jobs, jobs_on(settings, clusters))
        postgres = postgres_resource(settings)
        with postgres.transaction():
            pass  # PostgreSQL answers
        in_dagster = find_home() is not None
        if not in_dagster:
            note("DAGSTER_HOME is not set: the run is recorded in quper.sync_logs, not in the Dagster UI.")
        make: Callable[..., Runner] = partial(_dagster_run, stack) if in_dagster else DirectRun
        with busy("Starting the sync"):  # the import of Dagster takes seconds
            runner = make(settings, postgres, specs, full_refresh=full_refresh, verbose=verbose)
        rows = run_sync(runner, settings, postgres, clusters, specs)
        if settings.health_findings:
            _evaluate(settings, postgres, clusters)
        ok = all(row["status"] in ACCEPTED and not row["check_errors"] for row in rows)
        if as_json:
            print_json({"ok": ok, "in_dagster": in_dagster, "jobs": rows})
        else:
            print_summary(out(), rows)
    raise typer.Exit(0 if ok else 1)


def _dagster_run(stack: ExitStack, settings: Settings, *arguments: Any, **options: Any) -> Runner:
    """Open the Dagster instance until the end of the stack; return what runs jobs in it."""
    from qupersync_assets.cli.dagster_run import DagsterRun
    from qupersync_assets.defs.instance import configured_instance

    instance = stack.enter_context(configured_instance(settings, captures_output=False))
    postgres, specs = arguments
    return DagsterRun(settings, postgres, instance, specs, **options)  # type: ignore[arg-type]


def _evaluate(settings: Settings, postgres: PostgresResource, clusters: Sequence[str]) -> None:
    """Look for problems of the clusters in what was synced; a failure is no failure of the sync."""
    from qupersync_assets.core.errors import SyncError
    from qupersync_assets.core.redaction import redact
    from qupersync_assets.health.evaluation import evaluate
    from qupersync_assets.sync.health_options import options_by_cluster

    options = options_by_cluster(settings)
    for cluster in clusters:
        try:
            found = evaluate(postgres, cluster, options[cluster])
        except SyncError as error:
            note(f"The health of {cluster} was not evaluated: {redact(str(error))}")
            continue
        if found.opened or found.resolved:
            note(f"Cluster {cluster}: {found.opened} new findings, {found.resolved} resolved. See `qupersync health`.")
