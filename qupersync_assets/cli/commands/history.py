"""`qupersync history`: past runs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from qupersync_assets.cli import summary
from qupersync_assets.cli.arguments import Cluster, complete_jobs, one_of, parse_time, select_clusters, select_jobs
from qupersync_assets.cli.console import Json, exit_on_errors, out, print_block, print_json
from qupersync_assets.core.durations import format_duration
from qupersync_assets.postgres.sync_status import SyncStatus

# Characters of a terminal that shows a row on one line.
WIDE = 150
# The beginning of a run's id, as the Dagster UI shows it.
RUN_CHARACTERS = 8
_NUMBERS = (["extracted", "skipped"], ["inserted", "updated"], ["unchanged", "removed"])


def history(
    job: Annotated[
        list[str] | None,
        typer.Option(
            metavar="JOB", help="Only this job (sync_job_id or table); repeatable.", autocompletion=complete_jobs
        ),
    ] = None,
    status: Annotated[
        list[SyncStatus] | None,
        typer.Option(
            parser=one_of(SyncStatus), metavar="STATUS", help=f"Only this status: {', '.join(SyncStatus)}; repeatable."
        ),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_time, metavar="TIME|DURATION", help="Only runs started since then: 2026-11-24T12:00Z, 2h, 7d."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="Maximum number of rows.")] = 20,
    cluster: Cluster = None,
    as_json: Json = False,
) -> None:
    """Print past runs from quper.sync_logs, newest first; times are UTC.

    A run has a row for each of its jobs. --json prints all columns of quper.sync_logs.
    """
    with exit_on_errors(as_json):
        from qupersync_assets.postgres.job_status import log_rows
        from qupersync_assets.postgres.resource import postgres_resource
        from qupersync_assets.settings import Settings
        from qupersync_assets.sync_jobs import all_specs

        jobs = [spec.sync_job_id for spec in select_jobs(job, all_specs())] if job else []
        settings = Settings.load(logins=False)
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
    """Print a row per job and run: on one line, or on two if the terminal is narrow."""
    console = out()
    if not rows:
        console.print("No such runs in quper.sync_logs.")
        return
    cluster = ["cluster"] if summary.has_several_clusters(rows) else []
    # The cells of a column are beside each other, or one below the other.
    columns = [["started (UTC)", "run"], [*cluster, "job", "source"], ["status", "took"], *_NUMBERS]
    if console.width >= WIDE:
        columns = [[name] for names in columns for name in names]
    numbers = [name for names in _NUMBERS for name in names]
    table = summary.plain_table(
        ["\n".join(names) for names in columns], ["\n".join(n) for n in columns if n[0] in numbers]
    )
    for row in rows:
        cells = {
            "started (UTC)": summary.start_time(row),
            "run": row["run_id"][:RUN_CHARACTERS],
            "cluster": row["cluster"],
            "job": row["sync_job_id"],
            "source": row["source"] or "-",
            "status": row["status"],
            "took": format_duration(row["duration_ms"] / 1000 if row["duration_ms"] is not None else None),
            **{name: f"{row[f'rows_{name}']:,}" for name in numbers},
        }
        style = summary.style_of(row["status"])
        table.add_row(*("\n".join(cells[name] for name in names) for names in columns), style=style)
    print_block(console, table)
    summary.print_errors(console, rows, with_time=True)
