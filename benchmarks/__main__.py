"""`python -m benchmarks`: QuperSync beside other ways to keep the same rows fresh, in one run."""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import growth, loads, report, ticks
from benchmarks.contender import PROJECT
from benchmarks.contenders import all_contenders, ours
from benchmarks.world import World

PARTS = ("loads", "growth", "latency", "ticks")
ROWS, ROUNDS = 300_000, 3


def main() -> None:
    """Measure, print, and write the report: to docs/ if it is the whole benchmark, else to .bench/."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"of the source (default {ROWS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of everything (default {ROUNDS})")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="of the loads, those with it in their title"
    )
    parser.add_argument("--output", type=Path, help="folder for benchmark.md, .svg and .json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left running
    chosen = [
        c for c in all_contenders() if not options.only or any(word in c.title for word in options.only)
    ]
    measured = _measure(options.rows, options.rounds, options.parts, chosen)
    whole = options.rows == ROWS and options.parts == PARTS and not options.only
    folder = options.output or PROJECT / ("docs" if whole else ".bench")
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
        ours(1000).load(world, False)  # creates the tables
        if "loads" in parts:
            measured["loads"] = loads.measure(world, chosen, rows, rounds, _say)
        if "latency" in parts:
            measured["latency"] = growth.latency(world, rows, rounds, _say)
        if "growth" in parts:
            sizes = [rows // 6, rows * 2 // 3, rows * 10 // 3]
            measured["idle step MB"] = growth.idle_step(world)
            measured["growth"] = growth.growth(world, sizes, _say)
            measured["steady"] = growth.steady(world, rounds, _say)
        if "ticks" in parts:
            measured["ticks"] = ticks.measure(world, Path(folder) / "dagster", rounds, _say)
    return measured


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
