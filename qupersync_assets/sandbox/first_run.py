"""One Dagster run of all sync jobs against the sandbox: its progress, and a summary of quper.sync_logs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import psycopg2
from rich.console import Console
from rich.table import Table

from qupersync_assets.runs import JOB_NAME
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.supervisor import STOP_SECONDS, ProcessGroup

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


def sync_job() -> dg.JobDefinition:
    """The job of all sync jobs; named so that the steps' processes can load it."""
    from qupersync_assets.definitions import defs

    return defs.resolve_job_def(JOB_NAME)


def first_run(sandbox: Sandbox, console: Console, logs: Path) -> bool:
    """Run all jobs, saying when each ends, and print the summary.

    The run is a process of its own, which nothing outlives; `logs` is the folder for its output.

    Returns:
        Whether no job failed.
    """
    since = datetime.now(UTC)
    told: set[str] = set()
    run = ProcessGroup(
        "first-run", [sys.executable, "-m", "qupersync_assets.sandbox.first_run"], Path(), logs
    )
    try:
        while True:
            code = run.poll()
            for row in _logs(sandbox, since):
                job = row["sync_job_id"]
                if row["completed_at"] is not None and job not in told:
                    told.add(job)
                    console.print(
                        f"  [{len(told)}] {job}: {row['status']}, {row['rows_extracted']:,} rows "
                        f"in {row['duration_ms']:,} ms",
                        highlight=False,
                    )
            if code is not None:
                break
            time.sleep(0.3)
    finally:
        run.terminate()
        run.wait(STOP_SECONDS)
    rows = _logs(sandbox, since)
    _summary(console, rows)
    for row in rows:
        if row["error"]:
            line = f"{row['sync_job_id']}: {row['error']}"
            console.print(line, style=_style(row), soft_wrap=True, markup=False, highlight=False)
    if code != 0:
        console.print(f"The run did not succeed; see {run.log} and the UI.", soft_wrap=True)
    return code == 0


def main() -> int:
    """The run itself; 0 if it succeeded."""
    # Imported under its own name, which __main__ is not: the steps' processes have to find the job.
    from qupersync_assets.sandbox.first_run import sync_job as job

    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(
            dg.reconstructable(job), instance=instance, tags={"qupersync/trigger": "demo"}
        )
    return 0 if result.success else 1


def _logs(sandbox: Sandbox, since: datetime) -> list[dict[str, Any]]:
    """Rows of quper.sync_logs from then on, or none while the table does not exist yet."""
    names = [*COLUMNS.values(), "status", "duration_ms", "completed_at", "error"]
    with closing(sandbox.connect_quper()) as connection, connection.cursor() as cursor:
        try:
            cursor.execute(
                f"SELECT {', '.join(names)} FROM quper.sync_logs WHERE started_at >= %s ORDER BY sync_job_id",
                (since,),
            )
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
            return []
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _summary(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print what each job read and wrote, and from where; or its status, if that is not success."""
    statuses = Counter(row["status"] for row in rows)
    counts = ", ".join(f"{number} {status}" for status, number in sorted(statuses.items()))
    table = Table(title=f"quper.sync_logs: {counts}", box=None, padding=(0, 1, 0, 0))
    for heading in COLUMNS:
        justify: Literal["left", "right"] = "left" if heading in ("job", "source") else "right"
        table.add_column(heading, justify=justify, overflow="fold")
    for row in rows:
        shown = row if row["status"] == "success" else row | {"source": row["status"]}
        cells = [f"{v:,}" if isinstance(v, int) else str(v) for v in (shown[c] for c in COLUMNS.values())]
        table.add_row(*cells, style=_style(row))
    console.print(table)


def _style(row: dict[str, Any]) -> str | None:
    # That a cluster has nothing to read is no fault.
    return {"success": None, "unavailable": "yellow"}.get(row["status"], "red")


if __name__ == "__main__":
    sys.exit(main())
