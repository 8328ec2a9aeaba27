"""One Dagster run of all sync jobs against the sandbox: its progress, and a summary of quper.sync_logs."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Literal

import dagster as dg
import psycopg2
from rich.console import Console
from rich.table import Table

from qupersync_assets.runs import JOB_NAME
from qupersync_assets.sandbox import Sandbox

# Heading of the summary -> column of quper.sync_logs.
COLUMNS = {
    "job": "sync_job_id",
    "extracted": "rows_extracted",
    "inserted": "rows_inserted",
    "updated": "rows_updated",
    "unchanged": "rows_unchanged",
    "duplicates": "rows_duplicate",
    "skipped": "rows_skipped",
    "ms": "duration_ms",
    "status": "status",
}


def sync_job() -> dg.JobDefinition:
    """The job of all sync jobs; named so that the steps' processes can load it."""
    from qupersync_assets.definitions import defs

    return defs.resolve_job_def(JOB_NAME)


def first_run(sandbox: Sandbox, console: Console) -> bool:
    """Run all jobs, saying when each ends, and print the summary.

    Returns:
        Whether every job succeeded.
    """
    over = threading.Event()
    progress = threading.Thread(target=_report, args=(sandbox, console, datetime.now(UTC), over))
    progress.start()
    try:
        with dg.DagsterInstance.get() as instance:
            result = dg.execute_job(
                dg.reconstructable(sync_job),
                instance=instance,
                tags={"qupersync/trigger": "demo"},
                # What a step says is in the UI; here the summary is enough.
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
    finally:
        over.set()
        progress.join()
    rows = _logs(sandbox, "run_id = %s", result.run_id)
    _summary(console, rows)
    for row in rows:
        if row["error"]:
            console.print(
                f"{row['sync_job_id']}: {row['error']}", soft_wrap=True, highlight=False, markup=False
            )
    return result.success


def _report(sandbox: Sandbox, console: Console, since: datetime, over: threading.Event) -> None:
    """Print a line for each job as it ends."""
    told: set[str] = set()
    while True:
        last = over.wait(0.3)
        for row in _logs(sandbox, "started_at >= %s AND completed_at IS NOT NULL", since):
            job = row["sync_job_id"]
            if job not in told:
                told.add(job)
                console.print(
                    f"  [{len(told)}] {job}: {row['status']}, {row['rows_extracted']:,} rows "
                    f"in {row['duration_ms']:,} ms",
                    highlight=False,
                )
        if last:
            return


def _logs(sandbox: Sandbox, condition: str, parameter: Any) -> list[dict[str, Any]]:
    """Rows of quper.sync_logs, or none while the table does not exist yet."""
    names = [*COLUMNS.values(), "error"]
    with closing(sandbox.connect_quper()) as connection, connection.cursor() as cursor:
        try:
            cursor.execute(
                f"SELECT {', '.join(names)} FROM quper.sync_logs WHERE {condition} ORDER BY sync_job_id",
                (parameter,),
            )
        except psycopg2.errors.UndefinedTable:
            return []
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _summary(console: Console, rows: list[dict[str, Any]]) -> None:
    table = Table(title="quper.sync_logs", box=None, padding=(0, 1, 0, 0))
    for heading in COLUMNS:
        justify: Literal["left", "right"] = "left" if heading in ("job", "status") else "right"
        table.add_column(heading, justify=justify, overflow="fold")
    for row in rows:
        cells = [f"{v:,}" if isinstance(v, int) else str(v) for v in (row[c] for c in COLUMNS.values())]
        table.add_row(*cells, style=None if row["status"] == "success" else "red")
    console.print(table)
