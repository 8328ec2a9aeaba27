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
        reported: set[tuple[str, str]] = set()

        def print_new(rows: Sequence[Row]) -> None:
            for row in rows:
                job, text = row["sync_job_id"], _text(row)
                if text and (job, text) not in reported:
                    reported.add((job, text))
                    print_line(console, f"{job}: {text}")

        yield print_new
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
                    status=f"[{style_of(row['status']) or 'green'}]{_status(row)}[/]",
                )

        yield update_bars


def _text(row: Row) -> str:
    """Return how a load ended, or why an attempt failed that another one follows; else nothing."""
    if row["completed_at"] is None:
        return row["error"] or ""
    took = format_duration((row["duration_ms"] or 0) / 1000)
    if row["rows_skipped"]:
        return f"{row['status']}, but {row['rows_skipped']:,} of {row['rows_extracted']:,} rows skipped, in {took}"
    return f"{row['status']}, {row['rows_extracted']:,} rows in {took}"


def _status(row: Row) -> str:
    """Return the status for a bar."""
    if row["completed_at"] is None:
        return "waits for the next attempt" if row["error"] else str(row["status"])
    return f"{row['status']}, {row['rows_skipped']:,} skipped" if row["rows_skipped"] else str(row["status"])
