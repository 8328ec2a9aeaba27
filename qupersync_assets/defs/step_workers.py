"""Processes in which a forked run executes its steps: each has one step at a time, and may have several in turn.

Dagster's multiprocess executor starts a process for each step. A process that has executed one has compiled most
statements of the next, and has open connections. Here the executor gets a multiprocessing context whose processes
are assigned to workers, which are forks of the run. There are as many workers as processors, and one more whenever a
step has waited for too long: steps do not queue behind those that wait for a database, or hang. A worker whose step
has failed or died gets no other.
"""

import multiprocessing
import multiprocessing.context
import multiprocessing.process
import os
import queue
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

# A step waits so long for a worker before it gets a new one.
PATIENCE_SECONDS = 1.0
_END_SECONDS = 5
_LAST_EVENTS = ("ChildProcessDoneEvent", "ChildProcessSystemErrorEvent")
_FAILURES = ("STEP_FAILURE", "STEP_UP_FOR_RETRY")


class StepContext(multiprocessing.context.ForkContext):
    """What the executor uses of multiprocessing, for the steps of one run."""

    def __init__(self, processors: int) -> None:
        super().__init__()
        self._pool = _Pool(processors)

    def Process(self, target: Callable[..., None], args: tuple[Any, ...]) -> "_StepProcess":  # type: ignore[override]
        """Return a process that executes a step."""
        return _StepProcess(self._pool, target, args)

    def Queue(self, maxsize: int = 0) -> Any:
        """Return the queue of a step's events."""
        return _StepQueue(self._pool)

    def Event(self) -> Any:
        """Return the event that interrupts a step."""
        return _StepInterrupt()

    def close(self) -> None:
        """End the workers."""
        self._pool.close()


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    step: "_StepProcess | None" = None
    is_reusable: bool = True


class _Pool:
    def __init__(self, processors: int) -> None:
        self._processors = processors
        self._workers: list[_Worker] = []
        self.pending: deque[_StepProcess] = deque()

    def assign(self) -> None:
        """Give pending steps to workers, as far as it is time."""
        self._workers = [worker for worker in self._workers if worker.step or self._is_usable(worker)]
        while self.pending:
            worker = next((worker for worker in self._workers if worker.step is None), None)
            if worker is None:
                waited = time.monotonic() - self.pending[0].since
                if len(self._workers) >= self._processors and waited < PATIENCE_SECONDS:
                    return
                worker = self._fork()
            self.pending.popleft().begin(worker)

    def connections(self) -> list[Connection]:
        """Return the connections of all steps that are executed."""
        return [worker.connection for worker in self._workers if worker.step]

    def close(self) -> None:
        for worker in self._workers:
            with suppress(OSError):
                worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_END_SECONDS)  # one that hangs ends with the run

    def _is_usable(self, worker: _Worker) -> bool:
        if worker.is_reusable and worker.process.is_alive():
            return True
        worker.connection.close()
        worker.process.terminate()
        worker.process.join(_END_SECONDS)
        return False

    def _fork(self) -> _Worker:
        own, of_worker = Pipe()
        others = [own, *(worker.connection for worker in self._workers)]
        process = multiprocessing.get_context("fork").Process(target=_work, args=(of_worker, others))
        process.start()
        of_worker.close()
        worker = _Worker(process, own)
        self._workers.append(worker)
        return worker


class _StepProcess(multiprocessing.process.BaseProcess):
    """A step, as the executor sees a process: pending until it has a worker."""

    def __init__(self, pool: _Pool, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        super().__init__()
        self._pool = pool
        self._task = target, args
        self._worker: _Worker | None = None
        self.since = 0.0
        events, command = args
        events.step = command.term_event.step = self

    @property
    def worker(self) -> _Worker | None:
        """The worker of the step; None while it is pending."""
        return self._worker

    def start(self) -> None:
        self.since = time.monotonic()
        self._pool.pending.append(self)
        self._pool.assign()

    def begin(self, worker: _Worker) -> None:
        """Execute the step in a worker."""
        self._worker = worker
        worker.step = self
        worker.connection.send(self._task)

    @property
    def pid(self) -> int | None:
        return self._worker.process.pid if self._worker else None

    @property
    def exitcode(self) -> int | None:
        if self._worker is None:
            return None
        self._worker.process.join(1)
        return self._worker.process.exitcode

    def is_alive(self) -> bool:
        return self._worker is None or (self._worker.step is self and self._worker.process.is_alive())

    def join(self, timeout: float | None = None) -> None:
        """Return at once: the last event of a step is its end."""


class _StepQueue:
    """The events of a step, which come over the connection of its worker."""

    step: _StepProcess

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool

    def __reduce__(self) -> Any:
        return _WorkerQueue, ()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return the next event.

        Raises:
            queue.Empty: there is none within `timeout`, or until another step has one.
        """
        self._pool.assign()
        worker = self.step.worker
        if worker is None or not worker.connection.poll(0):
            if block:
                wait(self._pool.connections(), timeout)
            if worker is None or not worker.connection.poll(0):
                raise queue.Empty
        try:
            event = worker.connection.recv()
        except (EOFError, OSError):
            raise queue.Empty from None
        if getattr(event, "event_type_value", None) in _FAILURES:
            worker.is_reusable = False
        elif type(event).__name__ in _LAST_EVENTS:
            worker.is_reusable &= type(event).__name__ == _LAST_EVENTS[0]
            worker.step = None
        return event

    def close(self) -> None:
        """Free the worker of a step that has died."""
        worker = self.step.worker
        if worker and worker.step is self.step:
            worker.step, worker.is_reusable = None, False


class _StepInterrupt:
    """Interrupts a step, as SIGINT does; a pending one as soon as it begins."""

    step: _StepProcess

    def __init__(self) -> None:
        self._is_set = False

    def __reduce__(self) -> Any:
        return _worker_interrupt, (self._is_set,)

    def set(self) -> None:
        self._is_set = True
        worker = self.step.worker
        if worker and worker.step is self.step and worker.process.pid:
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, signal.SIGINT)


class _WorkerQueue:
    """The queue of a step's events in its worker."""

    connection: Connection  # to the run; a worker has one

    def put(self, event: Any) -> None:
        self.connection.send(event)


def _worker_interrupt(is_set: bool) -> Any:
    event = multiprocessing.get_context("fork").Event()
    if is_set:
        event.set()
    return event


def _work(connection: Connection, others: list[Connection]) -> None:
    """Execute steps until the run closes the connection."""
    for other in others:  # so that they end when the run closes them
        other.close()
    _WorkerQueue.connection = connection
    with suppress(EOFError):
        while True:
            target, args = connection.recv()
            target(*args)
