"""How far a run has come, from its rows of quper.sync_logs: bars on a terminal, lines elsewhere; on
stderr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from qupersync_assets.cli.console import out, short, style_of
from qupersync_assets.cli.summary import Row, ending


class View(Protocol):
    """Shows how far the jobs have come."""

    def show(self, rows: Sequence[Row]) -> None:
        """These are the run's rows by now."""


@contextmanager
def view(jobs: Sequence[str]) -> Iterator[View]:
    """Bars if stderr is a terminal, else lines."""
    console = out(stderr=True)
    if console.is_terminal:
        with _bars(jobs, console) as bars:
            yield bars
    else:
        yield _Lines(console)


class _Lines:
    """A line for each job that has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._reported: set[str] = set()

    def show(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row["completed_at"] is not None and row["sync_job_id"] not in self._reported:
                self._reported.add(row["sync_job_id"])
                self._console.print(ending(row), markup=False, soft_wrap=True)


class _Bars:
    """A bar for each job: nobody knows how many rows it will read, so it moves until the job ends."""

    def __init__(self, progress: Progress, jobs: Sequence[str]) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {
            job: progress.add_task(job, total=1, rows="", took="", status="[dim]waiting[/]") for job in jobs
        }

    def show(self, rows: Sequence[Row]) -> None:
        for row in rows:
            ended = row["completed_at"] is not None
            took = (row["completed_at"] or datetime.now(UTC)) - row["started_at"]
            self._progress.update(
                self._tasks[row["sync_job_id"]],
                total=1 if ended else None,  # without a total it moves to and fro
                completed=int(ended),
                rows=f"{row['rows_extracted']:,} rows",
                took=short(took),
                status=f"[{style_of(row['status']) or 'green'}]{row['status']}[/]",
            )


@contextmanager
def _bars(jobs: Sequence[str], console: Console) -> Iterator[View]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=14),
        TextColumn("{task.fields[rows]:>13}"),
        TextColumn("{task.fields[took]:>9}"),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bars(progress, sorted(jobs))
