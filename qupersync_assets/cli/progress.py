"""Progress of a run, from its rows of quper.sync_logs: bars on a terminal, else lines; on stderr."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.progress import BarColumn, Progress, TextColumn

from qupersync_assets.cli.console import out, print_line
from qupersync_assets.cli.summary import Row, format_duration, style_of

Update = Callable[[Sequence[Row]], None]


@contextmanager
def progress_view(jobs: Sequence[str]) -> Iterator[Update]:
    """Yield a function that shows the current rows of a run."""
    console = out(stderr=True)
    if not console.is_terminal:
        reported: set[str] = set()

        def print_ended(rows: Sequence[Row]) -> None:
            for row in rows:
                job = row["sync_job_id"]
                if row["completed_at"] is not None and job not in reported:
                    reported.add(job)
                    took = format_duration((row["duration_ms"] or 0) / 1000)
                    print_line(console, f"{job}: {row['status']}, {row['rows_extracted']:,} rows in {took}")

        yield print_ended
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=14),
        TextColumn("{task.fields[rows]:>13}"),
        TextColumn("{task.fields[took]:>9}"),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks = {
            job: progress.add_task(job, total=1, rows="", took="", status="[dim]waiting[/]") for job in sorted(jobs)
        }

        def update_bars(rows: Sequence[Row]) -> None:
            for row in rows:
                ended = row["completed_at"] is not None
                progress.update(
                    tasks[row["sync_job_id"]],
                    # The number of rows is not known in advance: without a total the bar pulses.
                    total=1 if ended else None,
                    completed=int(ended),
                    rows=f"{row['rows_extracted']:,} rows",
                    took=format_duration((row["completed_at"] or datetime.now(UTC)) - row["started_at"]),
                    status=f"[{style_of(row['status']) or 'green'}]{row['status']}[/]",
                )

        yield update_bars
