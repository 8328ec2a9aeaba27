"""First load and unchanged repeat of all contenders, round by round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.world import Held, World

Tell = Callable[[str], None]


class Mismatch(Exception):
    """A pipeline did not bring the source's rows to its target."""


def measure(
    world: World, contenders: Sequence[Contender], rows: int, rounds: int, tell: Tell
) -> dict[str, list[dict[str, Any]]]:
    """Each contender's rounds: rows/s of `load` and `repeat`, peak MB, rows written by the repeat."""
    world.fill(rows)
    source = world.source()
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number in range(rounds):
        for contender in contenders:
            result = _round(world, contender, rows, source)
            results[contender.name].append(result)
            told = ", ".join(f"{name} {value:,.0f}" for name, value in result.items() if value is not None)
            tell(f"round {number + 1}: {contender.name}: {told}")
    return dict(results)


def _round(world: World, contender: Contender, rows: int, source: Held) -> dict[str, Any]:
    contender.reset(world)
    first = contender.load(world, False)
    if contender.table is None:
        return {"load": rows / first.seconds, "peak": first.peak_mb, "process": first.process_seconds}
    _compare(contender, world.target(contender.table), source)
    if not contender.repeats:
        return {"load": rows / first.seconds, "peak": first.peak_mb, "process": first.process_seconds}
    since = world.settle(contender.table)
    again = contender.load(world, True)
    _compare(contender, world.target(contender.table), source)
    return {
        "load": rows / first.seconds,
        "repeat": rows / again.seconds,
        "peak": max(first.peak_mb, again.peak_mb),
        "rewritten": world.rewritten(contender.table, since),
        "process": first.process_seconds,
        "repeat process": again.process_seconds,
    }


def _compare(contender: Contender, target: Held, source: Held) -> None:
    if target != source:
        raise Mismatch(f"{contender.name}: the target has {target}, the source {source}")
