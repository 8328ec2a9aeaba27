"""Measures first loads of a growing source, and over a slow network, as processes."""

from __future__ import annotations

from functools import partial

from benchmarks.contenders import SIZES, reset, sync
from benchmarks.loads import FIRST
from benchmarks.rounds import FEW, Log, Results, measured, rotated
from benchmarks.world import World

# The most rows, for each row of a large load, and the fewest.
MOST, FEWEST = 50 / 3, 1 / 6
WITH, WITHOUT = "with latency", "without"


def growth(world: World, rows: int, rounds: int, log: Log) -> Results:
    """Measure one first load of each size, with the default page size."""
    results = Results(log)
    for number in (int(rows * FEWEST), rows * 5 // 3, int(rows * MOST)):
        world.fill(number)
        reset(world)
        results.add(f"{number:,}", FIRST, measured(world, partial(sync, world)))
        world.check("quper.query_history")
    return results


def latency(world: World, rows: int, rounds: int, log: Log) -> Results:
    """Measure first loads without and with latency for each page size."""
    world.fill(rows)
    results = Results(log)
    ports = {WITHOUT: world.environment["REDSHIFT_PORT"], WITH: str(world.slow)}
    for number in range(min(rounds, FEW)):
        for size in SIZES:
            for task in rotated(list(ports), number):
                reset(world)
                variables = {"SYNC_BATCH_SIZE": str(size), "REDSHIFT_PORT": ports[task]}
                results.add(str(size), task, measured(world, partial(sync, world, **variables)))
    return results
