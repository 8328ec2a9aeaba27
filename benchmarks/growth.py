"""Measures loads of a growing source, of few new rows, and over a slow network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from benchmarks.contender import Contender, python
from benchmarks.contenders import SIZES, qupersync
from benchmarks.loads import Log, Mismatch, Rounds, once
from benchmarks.world import World

NEW_ROWS = 500


def growth(world: World, sizes: Sequence[int], log: Log) -> dict[int, dict[str, float]]:
    """Measure the first load of each size, with the default page size."""
    found = {}
    contender = qupersync(SIZES[0])
    for rows in sizes:
        world.fill(rows)
        contender.reset(world)
        found[rows] = once(world, contender, repeat=False)
        log(f"{rows:,} rows: " + _figures(found[rows]))
    return found


def idle_step(world: World) -> float:
    """Return the peak memory in MB of a process that runs an empty Dagster step."""
    return python(world, "qupersync_load", "--idle").peak_mb


def steady(world: World, rounds: int, log: Log) -> Rounds:
    """Measure loads of 500 new rows each, after a complete load: seconds of the job's own work."""
    found: Rounds = defaultdict(list)
    world.settle("quper.query_history")  # as autovacuum does
    for number in range(1, rounds + 1):
        world.add(NEW_ROWS)
        took = python(world, "qupersync_load")
        found["work"].append(took.output_json["work"])
        found["seconds"].append(took.seconds)
        found["read"].append(took.output_json["rows_extracted"])
        found["new"].append(took.output_json["rows_inserted"])
        actual, expected = world.target("quper.query_history"), world.source(world.rows)
        if actual != expected:
            raise Mismatch(f"After {NEW_ROWS} new rows the target has {actual}, the source {expected}.")
        log(f"steady state {number}: " + _figures({name: values[-1] for name, values in found.items()}))
    return found


def latency(world: World, rows: int, rounds: int, log: Log) -> dict[int, Rounds]:
    """Measure the first load without and with latency, in seconds, for each page size."""
    world.fill(rows)
    found: dict[int, Rounds] = {}
    for size in SIZES:
        contenders: dict[str, Contender] = {
            "without": qupersync(size),
            "with": qupersync(size, REDSHIFT_PORT=str(world.slow)),
        }
        found[size] = {name: [] for name in contenders}
        for number in range(1, rounds + 1):
            for name, contender in contenders.items():
                contender.reset(world)
                found[size][name].append(once(world, contender, repeat=False)["load seconds"])
            figures = _figures({name: values[-1] for name, values in found[size].items()})
            log(f"latency {number}: pages of {size}: seconds {figures}")
    return found


def _figures(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:,.2f}" for name, value in found.items())
