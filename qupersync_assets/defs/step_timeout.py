"""Ends steps that hang: the process of a run kills a step's process after SYNC_STEP_TIMEOUT.

Dagster limits the time of a whole run only (`dagster/max_runtime`). A step that was stopped, or hangs in a library,
does not end itself; the process of its run lives. Dagster treats the step as one whose process died: it retries it,
and the other steps go on.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from qupersync_assets.core.forks import FORK_LOCK, is_forked_run
from qupersync_assets.core.log_format import StepFailures
from qupersync_assets.defs.dagster_internals import use_context
from qupersync_assets.defs.run_health import step_timeout_message
from qupersync_assets.defs.step_workers import StepContext
from qupersync_assets.defs.wrapped_executor import WrappedExecutor, wrap_executor

_POLL_SECONDS = 1.0
# A busy machine starts a process slowly.
_START_SECONDS = 60
Kind = dg.DagsterEventType
_ENDS = (Kind.STEP_SUCCESS, Kind.STEP_FAILURE, Kind.STEP_UP_FOR_RETRY)


def with_step_timeout(executor: dg.ExecutorDefinition, seconds: int) -> dg.ExecutorDefinition:
    """Return the multiprocess executor `executor`, which kills steps that take longer than `seconds`."""

    def wrap(inner: dg.Executor) -> dg.Executor:
        context = None
        if is_forked_run():
            context = StepContext(len(os.sched_getaffinity(0)))
            use_context(inner, context)
        return _LimitedExecutor(inner, seconds, context)

    return wrap_executor(executor, wrap)


class _LimitedExecutor(WrappedExecutor):
    def __init__(self, inner: dg.Executor, seconds: int, context: StepContext | None) -> None:
        super().__init__(inner)
        self._seconds = seconds
        self._context = context

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        watch = _Watch(plan_context.instance, plan_context.dagster_run, self._seconds)
        thread = threading.Thread(target=watch.run, name="step-timeout", daemon=True)
        thread.start()
        run = plan_context.dagster_run
        failures = StepFailures(run.run_id, run.job_name) if self._context else None
        try:
            for event in self.inner.execute(plan_context, execution_plan):
                watch.see(event)
                if failures:
                    failures.see(event)
                yield event
        finally:
            watch.ended.set()
            thread.join()
            if self._context:
                self._context.close()


@dataclass
class _Step:
    deadline: float
    pid: int | None = None  # not known before the process of the step has sent its first event


@dataclass
class _Watch:
    """The steps of a run; a thread of its own, because the executor waits for a process that stops within an event."""

    instance: dg.DagsterInstance
    dagster_run: dg.DagsterRun
    seconds: int
    ended: threading.Event = field(default_factory=threading.Event)
    _steps: dict[str, _Step] = field(default_factory=dict)

    def see(self, event: dg.DagsterEvent) -> None:
        """Note when a step starts, and the process that it has."""
        if event.step_key is None:
            return
        if event.event_type == Kind.STEP_WORKER_STARTING:
            self._steps[event.step_key] = _Step(time.monotonic() + max(self.seconds, _START_SECONDS))
        elif event.event_type == Kind.STEP_WORKER_STARTED and event.step_key in self._steps:
            data: Any = event.event_specific_data
            self._steps[event.step_key] = _Step(time.monotonic() + self.seconds, int(data.metadata["pid"].value))
        elif event.event_type in _ENDS:  # its process may have another step
            self._steps.pop(event.step_key, None)

    def run(self) -> None:
        """Kill late steps until the run has ended."""
        while not self.ended.wait(_POLL_SECONDS):
            for key, step in list(self._steps.items()):
                if time.monotonic() > step.deadline:
                    del self._steps[key]
                    with FORK_LOCK:
                        self._kill(key, step)

    def _kill(self, key: str, step: _Step) -> None:
        known = {other.pid for other in self._steps.values()}
        for process in multiprocessing.active_children():
            if process.pid == step.pid or (step.pid is None and process.pid not in known):
                # First the reason: the executor reports the end of the process at once.
                self.instance.report_engine_event(step_timeout_message(self.seconds), self.dagster_run, step_key=key)
                process.kill()
