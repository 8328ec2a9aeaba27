"""An executor around another one: it adds something to the execution of a run, and is the other one otherwise."""

from collections.abc import Callable
from typing import Any

import dagster as dg


class WrappedExecutor(dg.Executor):
    """An executor that executes a run as `inner` does, in the `execute` of a subclass."""

    def __init__(self, inner: dg.Executor) -> None:
        self.inner = inner

    @property
    def retries(self) -> Any:
        return self.inner.retries

    @property
    def step_dependency_config(self) -> Any:
        return self.inner.step_dependency_config

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)  # the loop of Celery's executor asks for its configuration


def wrap_executor(executor: dg.ExecutorDefinition, wrap: Callable[[dg.Executor], dg.Executor]) -> dg.ExecutorDefinition:
    """Return the definition of an executor whose instances are `wrap` of its own."""

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        make: Any = executor.executor_creation_fn  # executors have one
        return wrap(make(context))

    schema: Any = executor.config_schema
    return dg.ExecutorDefinition(executor.name, schema, executor.get_requirements, create, executor.description)
