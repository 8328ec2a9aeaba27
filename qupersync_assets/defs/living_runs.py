"""Lets each run hold a lock in PostgreSQL as long as its process lives, whichever executor it has.

Dagster's default launcher does not show another machine whether the process of a run lives: see `run_health`.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from qupersync_assets.defs.wrapped_executor import WrappedExecutor, wrap_executor
from qupersync_assets.postgres.process_lock import living_run
from qupersync_assets.postgres.resource import PostgresResource


class _LivingRun(WrappedExecutor):
    """An executor whose run holds its lock while it executes."""

    def __init__(self, inner: dg.Executor, postgres: PostgresResource) -> None:
        super().__init__(inner)
        self._postgres = postgres

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        with living_run(self._postgres.engine(), plan_context.run_id):
            yield from self.inner.execute(plan_context, execution_plan)


def show_living_runs(executor: dg.ExecutorDefinition, postgres: PostgresResource) -> dg.ExecutorDefinition:
    """Return the same executor, with a lock for each run."""
    return wrap_executor(executor, lambda inner: _LivingRun(inner, postgres))
