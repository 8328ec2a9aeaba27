"""A Dagster instance in memory with two connections, which stay open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import dagster as dg
import sqlalchemy as sa


@contextmanager
def instance_in_memory() -> Iterator[dg.DagsterInstance]:
    """Open an ephemeral instance.

    Dagster opens a connection to SQLite for each event that it stores, which costs more than the event.
    """
    with dg.DagsterInstance.ephemeral() as instance:
        runs: Any = instance.run_storage
        events: Any = instance.event_log_storage
        with _opened(runs) as of_runs, _opened(events) as of_events:
            runs.connect = _begin(of_runs)
            events._connect = _begin(of_events)
            yield instance


def _opened(storage: Any) -> sa.Connection:
    engine = sa.create_engine(storage._engine.url, poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    return engine.connect()


def _begin(connection: sa.Connection) -> Callable[[], AbstractContextManager[sa.Connection]]:
    """Return a function that begins a transaction, or joins that of the same thread."""
    lock = threading.RLock()

    @contextmanager
    def begin() -> Iterator[sa.Connection]:
        with lock:
            if connection.in_transaction():
                yield connection
            else:
                with connection.begin():
                    yield connection

    return begin
