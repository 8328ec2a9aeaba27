"""Tables and error lines from rows of quper.sync_logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from rich.console import Console

from qupersync_assets.cli.console import plain_table, print_line, style_of
from qupersync_assets.postgres.sync_status import SyncStatus

Row = Mapping[str, Any]

# Heading -> column of quper.sync_logs; the table fits into 80 characters.
COLUMNS = {
    "job": "sync_job_id",
    "read": "rows_extracted",
    "new": "rows_inserted",
    "changed": "rows_updated",
    "same": "rows_unchanged",
    "skipped": "rows_skipped",
    "source": "source",
}


def print_summary(console: Console, rows: Sequence[Row]) -> None:
    """Print the counts and the source of each job of a run, or its status if it did not succeed, and the
    errors."""
    statuses = Counter(row["status"] for row in rows)
    counts = ", ".join(f"{number} {status}" for status, number in sorted(statuses.items()))
    numbers = [heading for heading in COLUMNS if heading not in ("job", "source")]
    columns = {"cluster": "cluster", **COLUMNS} if has_several_clusters(rows) else COLUMNS
    table = plain_table(list(columns), numbers, title=f"quper.sync_logs: {counts}")
    for row in rows:
        shown = row if row["status"] == SyncStatus.SUCCESS else {**row, "source": row["status"]}
        cells = [f"{v:,}" if isinstance(v, int) else str(v) for v in (shown[c] for c in columns.values())]
        table.add_row(*cells, style=style_of(row["status"]))
    console.print(table)
    print_errors(console, rows)


def print_errors(console: Console, rows: Sequence[Row], *, with_time: bool = False) -> None:
    """Print one line for each row with an error, optionally with the start of the run."""
    for row in rows:
        if row["error"]:
            time = f"{start_time(row)} " if with_time else ""
            print_line(console, f"{time}{row['sync_job_id']}: {row['error']}", style_of(row["status"]))


def has_several_clusters(rows: Sequence[Row]) -> bool:
    """Return whether a table of these rows needs a column for the cluster."""
    return len({row["cluster"] for row in rows}) > 1


def start_time(row: Row) -> str:
    """Return the start of a run in UTC, without the year."""
    return f"{row['started_at'].astimezone(UTC):%m-%d %H:%M:%S}"
