"""A contender: a pipeline that loads the source's rows into a table."""

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
        name: name of the pipeline.
        setting: its setting, which distinguishes contenders of the same name.
        table: the target table; None if it writes none.
        reset: restores the target's state before a first load.
        load: loads the rows; the flag is set if the target has them already.
        repeats: whether a repeated load is measured.
        share: the loaded part of the source, less than 1 for slow pipelines.
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
        """Name and setting, for the report."""
        return f"{self.name}, {self.setting}" if self.setting else self.name


def python(world: World, module: str, *arguments: str, **variables: str) -> Measured:
    """Run a module of this package with QuperSync's environment."""
    return run([sys.executable, "-m", f"benchmarks.{module}", *arguments], world.environment | variables, PROJECT)
