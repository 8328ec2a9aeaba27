"""What a run did, as rows of quper.sync_logs tell it: a line when a job ends, and a table at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from qupersync_assets.cli.console import plain_table, short, style_of

Row = Mapping[str, Any]

# Heading of the summary -> column of quper.sync_logs; as many as 80 characters hold.
COLUMNS = {
    "job": "sync_job_id",
    "read": "rows_extracted",
    "new": "rows_inserted",
    "changed": "rows_updated",
    "same": "rows_unchanged",
    "skipped": "rows_skipped",
    "source": "source",
}


def ending(row: Row) -> str:
    """How a job has ended, in a line."""
    took = short((row["duration_ms"] or 0) / 1000)
    return f"{row['sync_job_id']}: {row['status']}, {row['rows_extracted']:,} rows in {took}"


def print_summary(console: Console, rows: Sequence[Row]) -> None:
    """Print what each job read and wrote, and from where; or its status, if that is not success, and why."""
    statuses = Counter(row["status"] for row in rows)
    counts = ", ".join(f"{number} {status}" for status, number in sorted(statuses.items()))
    numbers = [heading for heading in COLUMNS if heading not in ("job", "source")]
    # Of one cluster nobody needs to be told the name.
    columns = {"cluster": "cluster", **COLUMNS} if len({row["cluster"] for row in rows}) > 1 else COLUMNS
    table = plain_table(list(columns), numbers, title=f"quper.sync_logs: {counts}")
    for row in rows:
        shown = row if row["status"] == "success" else {**row, "source": row["status"]}
        cells = [f"{v:,}" if isinstance(v, int) else str(v) for v in (shown[c] for c in columns.values())]
        table.add_row(*cells, style=style_of(row["status"]))
    console.print(table)
    for row in rows:
        if row["error"]:
            line = f"{row['sync_job_id']}: {row['error']}"
            console.print(line, style=style_of(row["status"]), soft_wrap=True, markup=False, highlight=False)
