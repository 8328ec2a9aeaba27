"""Lets each run hold a lock in PostgreSQL as long as its process lives, whichever executor it has.

Dagster's default launcher does not show another machine whether the process of a run lives: see `run_health`.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from qupersync_assets.postgres.process_lock import living_run
from qupersync_assets.postgres.resource import PostgresResource


class _LivingRun(dg.Executor):
    """An executor whose run holds its lock while it executes."""

    def __init__(self, inner: dg.Executor, postgres: PostgresResource) -> None:
        self._inner = inner
        self._postgres = postgres

    @property
    def retries(self) -> Any:
        return self._inner.retries

    @property
    def step_dependency_config(self) -> Any:
        return self._inner.step_dependency_config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)  # the loop of Celery's executor asks for its configuration

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        with living_run(self._postgres.engine(), plan_context.run_id):
            yield from self._inner.execute(plan_context, execution_plan)


def show_living_runs(executor: dg.ExecutorDefinition, postgres: PostgresResource) -> dg.ExecutorDefinition:
    """Return the same executor, with a lock for each run."""

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        inner: dg.Executor = executor.executor_creation_fn(context)  # type: ignore[misc]  # executors have one
        return _LivingRun(inner, postgres)

    return dg.ExecutorDefinition(
        name=executor.name,
        config_schema=executor.config_schema,  # type: ignore[arg-type]  # a processed schema is accepted
        requirements=executor.get_requirements,
        executor_creation_fn=create,
        description=executor.description,
    )
