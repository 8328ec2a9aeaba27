"""`qupersync history`: past runs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from qupersync_assets.cli import summary
from qupersync_assets.cli.arguments import parse_time, select_clusters, select_jobs
from qupersync_assets.cli.console import Cluster, Json, exit_on_errors, out, print_json
from qupersync_assets.postgres.sync_status import SyncStatus


def history(
    job: Annotated[list[str] | None, typer.Option(help="Only this job (sync_job_id or table); repeatable.")] = None,
    status: Annotated[list[SyncStatus] | None, typer.Option(help="Only this status; repeatable.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_time, metavar="TIME|DURATION", help="Only runs started since then: 2026-11-24T12:00Z, 2h, 7d."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of rows.")] = 20,
    cluster: Cluster = None,
    as_json: Json = False,
) -> None:
    """Print past runs from quper.sync_logs, newest first; times are UTC."""
    with exit_on_errors(as_json):
        from qupersync_assets.postgres.job_status import log_rows
        from qupersync_assets.postgres.resource import postgres_resource
        from qupersync_assets.settings import Settings
        from qupersync_assets.sync_jobs import all_specs

        jobs = [spec.sync_job_id for spec in select_jobs(job, all_specs())] if job else []
        settings = Settings.load()
        rows = log_rows(
            postgres_resource(settings),
            select_clusters(settings, cluster),
            jobs=jobs,
            statuses=status or (),
            since=since,
            limit=limit,
        )
        if as_json:
            print_json(rows)
        else:
            _print(rows)


def _print(rows: Sequence[summary.Row]) -> None:
    console = out()
    if not rows:
        console.print("No such runs in quper.sync_logs.")
        return
    cluster = ["cluster"] if summary.has_several_clusters(rows) else []
    numbers = ("took", "read", "written", "skipped")
    table = summary.plain_table(("started (UTC)", *cluster, "job", "status", *numbers), numbers)
    for row in rows:
        counts = (row["rows_extracted"], row["rows_inserted"] + row["rows_updated"], row["rows_skipped"])
        table.add_row(
            summary.start_time(row),
            *(row[name] for name in (*cluster, "sync_job_id", "status")),
            summary.format_duration(row["duration_ms"] / 1000 if row["duration_ms"] is not None else None),
            *(f"{count:,}" for count in counts),
            style=summary.style_of(row["status"]),
        )
    console.print(table)
    summary.print_errors(console, rows, with_time=True)
