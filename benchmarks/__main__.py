"""`python -m benchmarks`: compare QuperSync with other tools, in one run."""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import growth, loads, pages, report, ticks
from benchmarks.contender import PROJECT
from benchmarks.contenders import all_contenders, qupersync
from benchmarks.world import World

PARTS = ("loads", "growth", "latency", "ticks", "pages")
ROWS, ROUNDS = 300_000, 3


def main() -> None:
    """Measure, print, and write the report: to docs/ if the benchmark is complete, else to .bench/."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of the source (default {ROWS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"number of rounds (default {ROUNDS})")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="measure only loads with this word in their title")
    parser.add_argument("--output", type=Path, help="folder for benchmark.md, .svg and .json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all processes are stopped
    chosen = [c for c in all_contenders() if not options.only or any(word in c.title for word in options.only)]
    measured = _measure(options.rows, options.rounds, options.parts, chosen)
    complete = options.rows == ROWS and options.parts == PARTS and not options.only
    folder = options.output or PROJECT / ("docs" if complete else ".bench")
    folder.mkdir(exist_ok=True)
    (folder / "benchmark.json").write_text(json.dumps(measured, indent=1) + "\n")
    print(report.write(folder), flush=True)


def _measure(rows: int, rounds: int, parts: list[str], chosen: list[Any]) -> dict[str, Any]:
    measured: dict[str, Any] = {
        "begun": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "rows": rows,
        "rounds": rounds,
        **report.machine(),
    }
    with tempfile.TemporaryDirectory() as folder, closing(World(Path(folder) / "sandbox")) as world:
        world.fill(1)
        qupersync(1000).load(world, False)  # creates the tables
        if "loads" in parts:
            measured["loads"] = loads.measure(world, chosen, rows, rounds, _print)
        if "latency" in parts:
            measured["latency"] = growth.latency(world, rows, rounds, _print)
        if "growth" in parts:
            sizes = [rows // 6, rows * 2 // 3, rows * 10 // 3]
            measured["idle step MB"] = growth.idle_step(world)
            measured["growth"] = growth.growth(world, sizes, _print)
            measured["steady"] = growth.steady(world, rounds, _print)
        if "ticks" in parts:
            measured["ticks"] = ticks.measure(world, Path(folder) / "dagster", rounds, _print)
        if "pages" in parts:
            measured["pages"] = pages.measure(world, rounds, _print)
    return measured


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
