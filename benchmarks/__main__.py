"""`python -m benchmarks`: compare QuperSync with other tools, and its commands and service with their targets."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import clusters, commands, growth, loads, pages, report, service, ticks
from benchmarks.contender import PROJECT
from benchmarks.contenders import sync
from benchmarks.peers import environment_of, versions
from benchmarks.rounds import Log
from benchmarks.world import World

# Each part gets (world, rows, rounds, log), and a world of its own, whose source is empty.
PARTS: dict[str, Callable[[World, int, int, Log], Any]] = {
    "loads": loads.large,
    "small": loads.small,
    "new_rows": loads.new_rows,
    "commands": commands.measure,
    "ticks": ticks.measure,
    "service": service.measure,
    "clusters": clusters.second,
    "bad_rows": clusters.bad_rows,
    "growth": growth.growth,
    "latency": growth.latency,
    "pages": pages.measure,
}
ROWS, ROUNDS = 300_000, 5


def main() -> int:
    """Measure each part, and write the report with the other parts of earlier runs; return the exit code.

    The report of a complete measurement is in docs/, that of a shorter one in .bench/.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of a large load (default {ROWS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"number of rounds (default {ROUNDS})")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, help="folder for benchmark.md, .svg and .json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all processes are stopped
    complete = options.rows == ROWS and options.rounds >= ROUNDS
    folder = options.output or PROJECT / ("docs" if complete else ".bench")
    folder.mkdir(exist_ok=True)
    for peer in versions():
        environment_of(peer)
    failed = []
    for name in options.parts:
        try:
            report.keep(folder, name, _measure(name, options.rows, options.rounds))
        except Exception:
            traceback.print_exc()
            failed.append(name)
    print(report.write(folder), flush=True)
    print(f"Failed parts: {', '.join(failed)}" if failed else "All parts were measured.", flush=True)
    return 1 if failed else 0


def _measure(name: str, rows: int, rounds: int) -> dict[str, Any]:
    began = time.monotonic()
    found = {"begun": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "rows": rows, "rounds": rounds, **report.machine()}
    with tempfile.TemporaryDirectory() as folder, closing(World(Path(folder) / "world")) as world:
        world.fill(1)
        sync(world)  # creates the tables
        found["results"] = PARTS[name](world, rows, rounds, lambda line: print(f"{name}: {line}", flush=True))
    return json.loads(json.dumps(found | {"minutes": (time.monotonic() - began) / 60}))  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
