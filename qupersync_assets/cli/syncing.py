"""`qupersync sync`: sync jobs once, in this process, through the Dagster job that the schedule runs."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from qupersync_assets.cli.output import Json, note, out, print_json, reported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dagster as dg

    from qupersync_assets.monitoring.job_states import Log
    from qupersync_assets.postgres import PostgresResource
    from qupersync_assets.settings import Settings
    from qupersync_assets.spec import SyncSpec

# What is no failure: that a cluster has nothing to read, or that another run loads the job right now.
FINE = ("success", "unavailable", "skipped")
LOOK_SECONDS = 0.3


def sync(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="sync_job_id or table; all of them if none is named."),
    ] = None,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="Read all that Redshift holds, and not only what is new.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Write Dagster's log to stderr.")] = False,
    as_json: Json = False,
) -> None:
    """Sync once, in this process, and print what became of each job.

    The run is recorded in the Dagster instance of DAGSTER_HOME, or of `make up` in this folder, so that the
    UI shows it; without either it is in quper.sync_logs alone. The exit code is 0 if every job has the status
    success, unavailable (this kind of cluster has no source for it) or skipped (another run loads it right
    now); 1 if one failed, 2 for a wrong command line.
    """
    with reported(as_json):
        import sqlalchemy as sa

        from qupersync_assets.cli.arguments import chosen
        from qupersync_assets.instance import configured_instance
        from qupersync_assets.resources import in_clear, postgres_resource
        from qupersync_assets.settings import Settings

        specs = chosen(jobs)
        settings = Settings.load()
        with postgres_resource(settings, in_clear).transaction() as connection:
            connection.execute(sa.text("SELECT 1"))
        with configured_instance(settings, captures_output=False) as instance:
            if instance is None:
                note(
                    "DAGSTER_HOME is not set: the run will be in quper.sync_logs, and not in the Dagster UI."
                )
            run_id, rows = _run(settings, specs, instance, full_refresh, verbose)
        ok = all(row["status"] in FINE for row in rows)
        if as_json:
            print_json({"ok": ok, "run_id": run_id, "in_dagster": instance is not None, "jobs": rows})
        else:
            from qupersync_assets.cli.summary import print_summary

            print_summary(out(), rows)
    raise typer.Exit(0 if ok else 1)


def _run(
    settings: Settings,
    specs: Sequence[SyncSpec],
    instance: dg.DagsterInstance | None,
    full_refresh: bool,
    verbose: bool,
) -> tuple[str, list[Log]]:
    """The id of the run, and a row of quper.sync_logs for each job."""
    import dagster as dg
    from dagster._core.utils import make_new_run_id

    from qupersync_assets.definitions import build_definitions
    from qupersync_assets.monitoring.job_states import log_rows
    from qupersync_assets.resources import in_clear, postgres_resource
    from qupersync_assets.runs import JOB_NAME, TRIGGER_TAG, asset_key

    postgres = postgres_resource(settings, in_clear)
    run_id = make_new_run_id()
    keys = [asset_key(spec) for spec in specs]
    level = "DEBUG" if verbose else "CRITICAL"
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": level}}}}
    if full_refresh:
        config["ops"] = {"__".join(key.path): {"config": {"full_refresh": True}} for key in keys}
    job = build_definitions(settings).resolve_job_def(JOB_NAME)

    def rows() -> list[Log]:
        found = log_rows(postgres, [settings.cluster_name], run_ids=[run_id])
        return sorted(found, key=lambda row: str(row["sync_job_id"]))

    def execute() -> None:
        job.execute_in_process(
            config,
            instance=used,
            raise_on_error=False,
            asset_selection=keys,
            run_id=run_id,
            tags={TRIGGER_TAG: "cli"},
        )

    with instance or dg.DagsterInstance.ephemeral() as used:
        try:
            _watch(execute, [spec.sync_job_id for spec in specs], rows)
        except KeyboardInterrupt:
            _stop(settings, postgres, used, run_id, specs)
        _close_logs(settings, postgres, used, run_id, specs)
    return run_id, rows()


def _watch(execute: Callable[[], None], jobs: Sequence[str], rows: Callable[[], Sequence[Log]]) -> None:
    """Execute in a thread of its own, and show how far it has come. In the main thread Dagster would take
    Ctrl-C for an error of the step, which is retried, and a driver that waits for a server would not let it
    through."""
    from qupersync_assets.cli.progress import view
    from qupersync_assets.errors import LoadError
    from qupersync_assets.serve import stop_on_signals

    errors: list[BaseException] = []

    def work() -> None:
        try:
            execute()
        except BaseException as error:
            errors.append(error)

    stop_on_signals()
    thread = threading.Thread(target=work, daemon=True)
    with view(jobs) as shown:
        thread.start()
        while thread.is_alive():
            thread.join(LOOK_SECONDS)
            with suppress(LoadError):  # the run itself tells of it
                shown.show(rows())
    for error in errors:
        raise error


def _stop(
    settings: Settings,
    postgres: PostgresResource,
    instance: dg.DagsterInstance,
    run_id: str,
    specs: Sequence[SyncSpec],
) -> NoReturn:
    """Note that the run was stopped, and end this process at once, as a kill would: what was committed
    stays."""
    from qupersync_assets.supervisor import uninterrupted

    with uninterrupted():
        run = instance.get_run_by_id(run_id)
        if run and not run.is_finished:
            instance.report_run_canceled(run, "Stopped on the command line.")
        _close_logs(settings, postgres, instance, run_id, specs)
        note("Stopped. Rows of batches that were committed stay.")
        sys.stdout.flush()
        os._exit(130)  # the thread may wait for a server for long


def _close_logs(
    settings: Settings,
    postgres: PostgresResource,
    instance: dg.DagsterInstance,
    run_id: str,
    specs: Sequence[SyncSpec],
) -> None:
    """What broke off before its first statement, or was stopped, has left no row in quper.sync_logs, or an
    open one."""
    from qupersync_assets.runs import close_logs

    record = instance.get_run_record_by_id(run_id)
    if record and record.dagster_run.is_finished and not record.dagster_run.is_success:
        close_logs(instance, postgres, settings.cluster_name, specs, record)
