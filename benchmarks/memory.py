"""Peak memory of one sync as its source grows: `python benchmarks/memory.py [ROWS ...]`.

Each size (50,000 and 1,000,000 rows, unless others are given) is a fresh sandbox and a fresh process that
runs query_history_sync through the real asset and IO manager. Prints seconds, rows/s, the process's peak
resident memory in MB and its ratio to the first size.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from qupersync_assets.sandbox import Sandbox


def load() -> None:
    """In a process of its own: run the job, report its time and peak memory as JSON."""
    import dagster as dg

    from qupersync_assets.definitions import defs
    from qupersync_assets.runs import JOB_NAME

    began = time.monotonic()
    result = defs.resolve_job_def(JOB_NAME).execute_in_process(
        asset_selection=[dg.AssetKey(["quper", "query_history"])]
    )
    assert result.success
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": time.monotonic() - began, "peak": peak}))


def measure(rows: int) -> tuple[float, float]:
    """Seconds and peak MB for that many rows, all of which arrive."""
    with tempfile.TemporaryDirectory() as folder, Sandbox(Path(folder)) as sandbox:
        sandbox.workload().bulk_queries(rows, datetime.now(UTC))
        answer = subprocess.run(
            [sys.executable, __file__, "--load"],
            env={**os.environ, **sandbox.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        with closing(sandbox.connect_quper()) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*), (SELECT rows_inserted FROM quper.sync_logs) FROM quper.query_history"
            )
            held, inserted = cursor.fetchone()
            assert held == inserted > 0.99 * rows  # the oldest leave the seven days while we look
        measured = json.loads(answer.stdout.splitlines()[-1])
        return measured["seconds"], measured["peak"]


def main() -> None:
    """Print the table."""
    sizes = [int(size) for size in sys.argv[1:]] or [50_000, 1_000_000]
    print("| rows | seconds | rows/s | peak MB | ratio |\n|---|---|---|---|---|")
    first = None
    for rows in sizes:
        seconds, peak = measure(rows)
        first = first or peak
        print(
            f"| {rows:,} | {seconds:.1f} | {rows / seconds:,.0f} | {peak:.0f} | {peak / first:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    load() if "--load" in sys.argv else main()
