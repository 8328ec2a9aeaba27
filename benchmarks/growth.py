"""What becomes of a load as the source grows, of the next one with little news, and over a slow network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from benchmarks.contender import Contender, python
from benchmarks.contenders import SIZES, ours
from benchmarks.loads import Mismatch, Rounds, Tell, once
from benchmarks.world import World

NEWS = 500


def growth(world: World, sizes: Sequence[int], tell: Tell) -> dict[int, dict[str, float]]:
    """The first load of each size, with the default pages."""
    found = {}
    contender = ours(SIZES[0])
    for rows in sizes:
        world.fill(rows)
        contender.reset(world)
        found[rows] = once(world, contender, repeat=False)
        tell(f"{rows:,} rows: " + _figures(found[rows]))
    return found


def idle_step(world: World) -> float:
    """The peak in MB of a process that runs a step of Dagster which does nothing."""
    return python(world, "ours", "--idle").peak_mb


def steady(world: World, rounds: int, tell: Tell) -> Rounds:
    """Loads with 500 new rows each, after a source that was loaded: seconds of the job's own work."""
    found: Rounds = defaultdict(list)
    world.settle("quper.query_history")  # as autovacuum would have done
    for number in range(1, rounds + 1):
        world.add(NEWS)
        took = python(world, "ours")
        found["work"].append(took.told["work"])
        found["seconds"].append(took.seconds)
        found["read"].append(took.told["rows_extracted"])
        found["new"].append(took.told["rows_inserted"])
        held, wanted = world.target("quper.query_history"), world.source(world.rows)
        if held != wanted:
            raise Mismatch(f"After {NEWS} new rows the target has {held}, the source {wanted}.")
        tell(f"steady state {number}: " + _figures({name: values[-1] for name, values in found.items()}))
    return found


def latency(world: World, rows: int, rounds: int, tell: Tell) -> dict[int, Rounds]:
    """Seconds of the first load through the gateway and through the slower one, for each page size."""
    world.fill(rows)
    found: dict[int, Rounds] = {}
    for size in SIZES:
        contenders: dict[str, Contender] = {
            "without": ours(size),
            "with": ours(size, REDSHIFT_PORT=str(world.slow)),
        }
        found[size] = {name: [] for name in contenders}
        for number in range(1, rounds + 1):
            for name, contender in contenders.items():
                contender.reset(world)
                found[size][name].append(once(world, contender, repeat=False)["load seconds"])
            told = _figures({name: values[-1] for name, values in found[size].items()})
            tell(f"latency {number}: pages of {size}: seconds {told}")
    return found


def _figures(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:,.2f}" for name, value in found.items())
