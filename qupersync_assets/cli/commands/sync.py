"""`qupersync sync`: sync jobs once, in this process, through the Dagster job that the schedule runs."""

from __future__ import annotations

from typing import Annotated

import typer

from qupersync_assets.cli.console import Cluster, Json, note, out, print_json, reported

# What is no failure: that a cluster has nothing to read, or that another run loads the job right now.
FINE = ("success", "unavailable", "skipped")


def sync(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="sync_job_id or table; all of them if none is named."),
    ] = None,
    cluster: Cluster = None,
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

        from qupersync_assets.cli.arguments import chosen, chosen_clusters
        from qupersync_assets.cli.one_shot import OneShot
        from qupersync_assets.cli.summary import print_summary
        from qupersync_assets.defs.instance import configured_instance
        from qupersync_assets.defs.resources import postgres_resource
        from qupersync_assets.settings import Settings

        specs = chosen(jobs)
        settings = Settings.load()
        clusters = chosen_clusters(settings, cluster)
        postgres = postgres_resource(settings)
        with postgres.transaction() as connection:
            connection.execute(sa.text("SELECT 1"))
        with configured_instance(settings, captures_output=False) as instance:
            if instance is None:
                note(
                    "DAGSTER_HOME is not set: the run will be in quper.sync_logs, and not in the Dagster UI."
                )
            with OneShot(settings, postgres, specs, instance) as one_shot:
                rows = [
                    row
                    for name in clusters
                    for row in one_shot.run(name, full_refresh=full_refresh, verbose=verbose)
                ]
        ok = all(row["status"] in FINE for row in rows)
        if as_json:
            print_json({"ok": ok, "in_dagster": instance is not None, "jobs": rows})
        else:
            print_summary(out(), rows)
    raise typer.Exit(0 if ok else 1)
