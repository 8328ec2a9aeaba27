"""Measures the first load and an unchanged repeat of all contenders, round by round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from benchmarks.contender import Contender
from benchmarks.process import Measured
from benchmarks.world import World

Log = Callable[[str], None]
# The values of one contender per round, by name; `load` and `repeat` in rows/s.
Rounds = dict[str, list[float]]


class Mismatch(Exception):
    """A target has other rows than the source."""


def measure(world: World, contenders: Sequence[Contender], rows: int, rounds: int, log: Log) -> dict[str, Rounds]:
    """Return the measured values of each contender, by its title.

    Raises:
        Mismatch: a target has other rows than the source.
    """
    world.fill(rows)
    results: dict[str, Rounds] = defaultdict(lambda: defaultdict(list))
    for number in range(1, rounds + 1):
        for contender in contenders:
            contender.reset(world)
            found = once(world, contender, repeat=False)
            if contender.repeats:
                found |= once(world, contender, repeat=True)
            for name, value in found.items():
                results[contender.title][name].append(value)
            figures = ", ".join(f"{name} {value:,.0f}" for name, value in found.items())
            log(f"round {number}: {contender.title}: {figures}")
    return results


def once(world: World, contender: Contender, repeat: bool) -> dict[str, float]:
    """Load or repeat the load, and compare the target with the source."""
    prefix = "repeat" if repeat else "load"
    since = world.settle(contender.table) if repeat and contender.table else 0
    busy = world.cpu_seconds()
    took: Measured = contender.load(world, repeat)
    busy = world.cpu_seconds() - busy + took.cpu_seconds
    rows = int(world.rows * contender.share)
    found = {
        prefix: rows / took.seconds,
        f"{prefix} seconds": took.seconds,
        f"{prefix} process seconds": took.process_seconds,
        f"{prefix} CPU seconds": busy,
        f"{prefix} peak MB": took.peak_mb,
    }
    if contender.table:
        target, source = world.target(contender.table), world.source(rows)
        if target != source:
            raise Mismatch(f"{contender.title}, {prefix}: the target has {target}, the source {source}.")
        if repeat:
            found["rewritten"] = world.rewritten(contender.table, since)
    return found
