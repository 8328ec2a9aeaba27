"""Tables and styles, and the rows of quper.sync_logs as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from rich.console import Console
from rich.table import Table

from qupersync_assets.cli.console import print_block, print_line
from qupersync_assets.postgres.sync_status import SyncStatus

Row = Mapping[str, Any]

# Heading -> column of quper.sync_logs; the table fits into 80 characters.
COLUMNS = {
    "job": "sync_job_id",
    "status": "status",
    "extracted": "rows_extracted",
    "inserted": "rows_inserted",
    "updated": "rows_updated",
    "unchanged": "rows_unchanged",
    "skipped": "rows_skipped",
}

CHECK_FAILED = "check failed"
# Jobs that are named in a line.
MAX_NAMES = 3

_STYLES: dict[str, str] = {
    SyncStatus.SUCCESS: "",
    SyncStatus.RUNNING: "cyan",
    SyncStatus.UNAVAILABLE: "yellow",
    SyncStatus.SKIPPED: "yellow",
}


def plain_table(headings: Sequence[str], numbers: Sequence[str] = (), title: str | None = None) -> Table:
    """Return a table without borders that folds long cells and aligns the columns `numbers` on the right."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    return table


def style_of(status: str | None) -> str:
    """Return the style of a status of quper.sync_logs; None is a job that never ran."""
    return _STYLES.get(status, "red") if status else "dim"


def print_summary(console: Console, rows: Sequence[Row]) -> None:
    """Print the status and the counts of each job of a run, and the errors.

    A job that succeeded, but has an error of a check, counts as `check failed`.
    """
    rows = [{**row, "status": CHECK_FAILED} if _lost_rows(row) else row for row in rows]
    statuses = Counter(row["status"] for row in rows)
    counts = ", ".join(f"{number} {status}" for status, number in sorted(statuses.items()))
    numbers = [heading for heading in COLUMNS if heading not in ("job", "status")]
    columns = {"cluster": "cluster", **COLUMNS} if has_several_clusters(rows) else COLUMNS
    table = plain_table(list(columns), numbers, title=f"Jobs: {counts}")
    for row in rows:
        cells = [f"{v:,}" if isinstance(v, int) else str(v) for v in (row[c] for c in columns.values())]
        table.add_row(*cells, style=style_of(row["status"]))
    print_block(console, table)
    print_errors(console, rows)
    for row in rows:
        for check, text in row["check_errors"].items():
            print_line(console, f"{row['sync_job_id']}, {check}: {text}", "red")


def _lost_rows(row: Row) -> bool:
    return row["status"] == SyncStatus.SUCCESS and bool(row["check_errors"])


def print_errors(console: Console, rows: Sequence[Row], *, with_time: bool = False) -> None:
    """Print one line for each error, with the jobs that have it, and optionally the start of the runs."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["error"]:
            groups.setdefault((row["error"], row["status"]), []).append(row)
    for (error, status), found in groups.items():
        times = list(dict.fromkeys([start_time(found[-1]), start_time(found[0])])) if with_time else []
        words = [" to ".join(times)] if times else []
        print_line(console, f"{' '.join([*words, name_jobs(found)])}: {error}", style_of(status))


def name_jobs(rows: Sequence[Row]) -> str:
    """Return the first jobs of some rows, and the number of the others."""
    return name_some(list(dict.fromkeys(row["sync_job_id"] for row in rows)))


def name_some(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others."""
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def has_several_clusters(rows: Sequence[Row]) -> bool:
    """Return whether a table of these rows needs a column for the cluster."""
    return len({row["cluster"] for row in rows}) > 1


def start_time(row: Row) -> str:
    """Return the start of a run in UTC."""
    return f"{row['started_at'].astimezone(UTC):%Y-%m-%d %H:%M:%S}"
