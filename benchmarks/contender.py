"""What is measured: something that brings the source's rows to a table of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import Measured, run
from benchmarks.world import World

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Contender:
    """A pipeline with one setting.

    Attributes:
        name: of the pipeline.
        setting: what tells it from others of that name.
        table: where its rows go; None if it writes none.
        reset: makes the target as it is before a first load.
        load: brings the source's rows to the table; told whether they are all there already.
        repeats: whether a repeat is worth measuring.
        share: the part of the source that it loads, for those that would take too long.
    """

    name: str
    setting: str
    table: str | None
    reset: Callable[[World], None]
    load: Callable[[World, bool], Measured]
    repeats: bool = True
    share: float = 1

    @property
    def title(self) -> str:
        """Name and setting."""
        return f"{self.name}, {self.setting}" if self.setting else self.name


def python(world: World, module: str, *arguments: str, **variables: str) -> Measured:
    """Run a module of this package with the product's environment."""
    return run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments], world.environment | variables, PROJECT
    )
