"""A contender: a pipeline that loads the source's rows into a table, as a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import Measured
from benchmarks.world import World

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Contender:
    """A pipeline with one setting.

    Attributes:
        name: name of the pipeline.
        setting: its setting, which distinguishes contenders of the same name.
        table: the target table.
        reset: restores the target's state before a first load.
        load: loads the rows; the flag is set if all are to be read although the target has them.
        prepare: does a first load faster, before a load of new rows is measured, if it is not `load`.
        once: whether the large loads are measured in the first round only, because they take minutes.
    """

    name: str
    setting: str
    table: str
    reset: Callable[[World], None]
    load: Callable[[World, bool], Measured]
    prepare: Callable[[World, bool], Measured] | None = None
    once: bool = False

    @property
    def title(self) -> str:
        """Name and setting, for the report."""
        return f"{self.name}, {self.setting}" if self.setting else self.name
