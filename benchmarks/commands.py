"""Measures commands of a user, as processes."""

from __future__ import annotations

import sys
from functools import partial

from benchmarks.contenders import PROGRAM
from benchmarks.process import run
from benchmarks.rounds import Log, Results, measured, rotated
from benchmarks.world import World

# Command -> the seconds that it may take.
LIMITS = {"--help": 0.3, "status": 0.7, "history": 0.7, "doctor": 1.2}
DEMO, DEMO_LIMIT = "make demo ONCE=1, second time", 6.0
MIGRATE = "migrate, new database"
TASK = "command"


def measure(world: World, rows: int, rounds: int, log: Log) -> Results:
    """Measure commands after a sync of all jobs; the demo has a folder of its own, and has run before."""
    world.history(3000)
    run([PROGRAM, "sync", "--quiet"], world.environment, world.folder)
    demo = world.folder / "demo"
    demo.mkdir()
    play = partial(run, [sys.executable, "-m", "qupersync_assets.sandbox.demo", "--once"], {}, demo)
    play()
    results = Results(log)
    for number in range(rounds):
        for title in rotated([*LIMITS, MIGRATE, DEMO], number):
            if title == DEMO:
                took = measured(world, play)
            elif title == MIGRATE:
                variables = world.environment | world.create_database("migrated")
                took = measured(world, partial(run, [PROGRAM, "migrate"], variables, world.folder))
            else:
                # 1: there is a problem, such as no running daemon.
                took = measured(world, partial(run, [PROGRAM, title], world.environment, world.folder, (0, 1)))
            results.add(title if title == DEMO else f"qupersync {title}", TASK, took)
    return results
