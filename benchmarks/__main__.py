"""`python -m benchmarks`: QuperSync beside other ways to keep the same rows fresh, in one run."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks import loads
from benchmarks.contenders import all_contenders, ours
from benchmarks.world import World


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="contenders whose name has it")
    options = parser.parse_args()
    chosen = [c for c in all_contenders() if not options.only or any(w in c.name for w in options.only)]
    with tempfile.TemporaryDirectory() as folder, closing(World(Path(folder))) as world:
        ours(1000).load(world, False)  # creates the tables
        measured = loads.measure(world, chosen, options.rows, options.rounds, _say)
    for name, rounds in measured.items():
        medians = {k: statistics.median(r[k] for r in rounds) for k in rounds[0]}
        _say(f"median: {name}: " + ", ".join(f"{k} {v:,.0f}" for k, v in medians.items()))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
