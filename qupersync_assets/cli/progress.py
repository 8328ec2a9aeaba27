"""Progress of a run, from its rows of quper.sync_logs: bars on a terminal, else lines; on stderr."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from qupersync_assets.cli.console import out, print_line
from qupersync_assets.cli.summary import Row, style_of
from qupersync_assets.core.durations import format_duration

Update = Callable[[Sequence[Row]], None]
# Seconds between two lines about a job that is still running.
LINE_SECONDS = 10.0


@contextmanager
def progress_view(jobs: Sequence[str]) -> Iterator[Update]:
    """Yield a function that shows the current rows of a run."""
    console = out(stderr=True)
    if not console.is_terminal:
        yield _Lines(console).update
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[rows]:>12}"),
        TextColumn("{task.fields[rate]:>9}"),
        TextColumn("{task.fields[took]:>7}"),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=console) as progress:
        waiting = {"rows": "", "rate": "", "took": "", "status": "[dim]waiting[/]"}
        tasks = {job: progress.add_task(job, total=1, **waiting) for job in sorted(jobs)}  # type: ignore[arg-type]

        def update_bars(rows: Sequence[Row]) -> None:
            for row in rows:
                ended = row["completed_at"] is not None
                progress.update(
                    tasks[row["sync_job_id"]],
                    # The number of rows is not known in advance: without a total the bar pulses.
                    total=1 if ended else None,
                    completed=int(ended),
                    rows=f"{row['rows_extracted']:,} rows",
                    rate=_rate(row),
                    took=format_duration(_seconds(row)),
                    status=f"[{style_of(row['status']) or 'green'}]{_status(row)}[/]",
                )

        yield update_bars


class _Lines:
    """Prints a line when a job starts, every LINE_SECONDS, if an attempt fails, and when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: set[tuple[str, str]] = set()
        self._next: dict[str, float] = {}  # when to print the next line about a running job

    def update(self, rows: Sequence[Row]) -> None:
        """Print what is new."""
        for row in rows:
            job, text = row["sync_job_id"], _text(row)
            if not text and time.monotonic() >= self._next.get(job, 0.0):
                self._next[job] = time.monotonic() + LINE_SECONDS
                text = f"running, {row['rows_extracted']:,} rows in {format_duration(_seconds(row))}, {_rate(row)}"
            if text and (job, text) not in self._printed:
                self._printed.add((job, text))
                print_line(self._console, f"{job}: {text}")


def _text(row: Row) -> str:
    """Return how a load ended, or why an attempt failed that another one follows; else nothing."""
    if row["completed_at"] is None:
        return row["error"] or ""
    took = format_duration(_seconds(row))
    if row["rows_skipped"]:
        return f"{row['status']}, but {row['rows_skipped']:,} of {row['rows_extracted']:,} rows skipped, in {took}"
    return f"{row['status']}, {row['rows_extracted']:,} rows in {took}"


def _seconds(row: Row) -> float:
    """Return how long a load has taken so far."""
    return float(((row["completed_at"] or datetime.now(UTC)) - row["started_at"]).total_seconds())


def _rate(row: Row) -> str:
    return f"{row['rows_extracted'] / max(_seconds(row), 0.001):,.0f}/s"


def _status(row: Row) -> str:
    """Return the status for a bar."""
    if row["completed_at"] is None:
        return "waits for the next attempt" if row["error"] else str(row["status"])
    return f"{row['status']}, {row['rows_skipped']:,} skipped" if row["rows_skipped"] else str(row["status"])
