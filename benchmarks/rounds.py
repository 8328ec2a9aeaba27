"""What all parts of the benchmark measure in rounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

from benchmarks.process import Measured
from benchmarks.world import World

Log = Callable[[str], None]
# Values per round, by name.
Rounds = dict[str, list[float]]
T = TypeVar("T")
# Rounds of parts that take long for what they say.
FEW = 3


class Results(defaultdict[str, dict[str, Rounds]]):
    """The rounds of each contender and each of its tasks; each round is printed by `log`."""

    def __init__(self, log: Log) -> None:
        super().__init__(dict)
        self._log = log

    def add(self, title: str, task: str, values: dict[str, float]) -> None:
        """Add the values of one round."""
        rounds = self[title].setdefault(task, {})
        for name, value in values.items():
            rounds.setdefault(name, []).append(value)
        self._log(f"{title}: {task}: " + ", ".join(f"{name} {value:,.2f}" for name, value in values.items()))


def rotated(contenders: Sequence[T], number: int) -> list[T]:
    """Return the contenders in the order of a round: each round begins with another one."""
    first = number % len(contenders)
    return [*contenders[first:], *contenders[:first]]


def measured(world: World, action: Callable[[], Measured]) -> dict[str, float]:
    """Return what a process takes: seconds, CPU seconds with those of PostgreSQL, inner seconds, peak memory."""
    world.checkpoint()
    busy = world.cpu_seconds()
    took = action()
    values = {"s": took.seconds, "CPU s": took.cpu_seconds + world.cpu_seconds() - busy, "peak MB": took.peak_mb}
    return values if took.inner_seconds is None else values | {"inner s": took.inner_seconds}
