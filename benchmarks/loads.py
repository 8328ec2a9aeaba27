"""Measures loads as processes: the first load and an unchanged repeat, and few new rows of a large source."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmarks.contender import Contender
from benchmarks.contenders import loaders, seed
from benchmarks.rounds import Log, Results, measured, rotated
from benchmarks.world import World

FIRST, REPEAT = "first load", "repeat"
NEW_ROWS = 500
# Rows of a small load, and of a source with few new rows, for each row of a large load.
SMALL, LARGE = 1 / 60, 10 / 3


def large(world: World, rows: int, rounds: int, log: Log) -> Results:
    """Measure the first load of all rows and the repeat."""
    return _loads(world, loaders(), rows, rounds, log, repeats=True)


def small(world: World, rows: int, rounds: int, log: Log) -> Results:
    """Measure the first load of few rows, of the predecessor, too."""
    return _loads(world, [*loaders(), seed()], int(rows * SMALL), rounds, log, repeats=False)


def _loads(
    world: World, contenders: Sequence[Contender], rows: int, rounds: int, log: Log, *, repeats: bool
) -> Results:
    world.fill(rows)
    results = Results(log)
    for number in range(rounds):
        for contender in rotated(contenders, number):
            if contender.once and repeats and number:
                continue
            contender.reset(world)
            results.add(contender.title, FIRST, measured(world, partial(contender.load, world, False)))
            world.check(contender.table)
            if repeats:
                since = world.settle(contender.table)
                took = measured(world, partial(contender.load, world, True))
                world.check(contender.table)
                results.add(contender.title, REPEAT, took | {"rewritten": world.rewritten(contender.table, since)})
    return results


def new_rows(world: World, rows: int, rounds: int, log: Log) -> Results:
    """Measure loads of 500 new rows each, of a source of which the rest is loaded."""
    world.fill(int(rows * LARGE))
    results = Results(log)
    contenders = loaders(incremental=True)
    for contender in contenders:
        contender.reset(world)
        (contender.prepare or contender.load)(world, True)
        if not contender.once:
            contender.load(world, False)
        world.settle(contender.table)  # as autovacuum does
        log(f"{contender.title}: has {world.rows:,} rows")
    for number in range(rounds):
        world.add(NEW_ROWS)
        for contender in rotated(contenders, number):
            if contender.once and number:
                continue
            took = measured(world, partial(contender.load, world, False))
            results.add(contender.title, f"{NEW_ROWS} new rows", took)
        if not number:
            for contender in contenders:
                world.check(contender.table)
    return results
