"""Only one `make up` serves a database: two would start each sync twice.

The service holds a lock in PostgreSQL. A second one, also on another machine, is refused with the name of the first.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.retries import call_with_retries
from qupersync_assets.postgres.process_lock import LOOK_SECONDS, ProcessLock, this_process
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.serve.supervisor import ServeError

# Seconds that the session of a service that was just stopped may take to end.
FIRST_DELAY = 0.5


class _Taken(Exception):
    """Another process holds the lock."""


class OnlyService:
    """The lock of a service, as a Service that never has to be started again."""

    name = "lock"

    def __init__(self, lock: ProcessLock) -> None:
        self._lock = lock
        self._next_look = 0.0

    def start(self) -> None:
        """Do nothing."""

    def failed(self) -> bool:
        """Return False: it does not end."""
        return False

    def ended(self) -> str | None:
        """Return None; take the lock again if PostgreSQL has ended its session.

        Raises:
            ServeError: another service has taken it meanwhile.
        """
        if time.monotonic() < self._next_look or self._lock.is_held():
            return None
        self._next_look = time.monotonic() + LOOK_SECONDS
        try:
            if not self._lock.take():
                raise ServeError(f"{_refusal(self._lock)} It has started while PostgreSQL could not be reached.")
        except SyncError:
            pass  # PostgreSQL is away: the next look tries again
        return None


@contextmanager
def only_service(postgres: PostgresResource) -> Iterator[OnlyService]:
    """Hold the lock of the service of a database; yields what a supervisor has to poll.

    Raises:
        ServeError: another service holds it.
        SyncError: PostgreSQL cannot be reached.
    """
    lock = ProcessLock(postgres.engine(), "service", this_process("make up", f"folder {Path.cwd()}"))

    def take() -> None:
        if not lock.take():
            raise _Taken

    try:
        try:
            call_with_retries(take, lambda error: isinstance(error, _Taken), FIRST_DELAY)
        except _Taken:
            raise ServeError(_refusal(lock)) from None
        yield OnlyService(lock)
    finally:
        lock.release()
        postgres.dispose()


def _refusal(lock: ProcessLock) -> str:
    return (
        f"QuperSync is already up with this database: {lock.held_by()}. Stop it there first, "
        "or set POSTGRES_DATABASE to another database."
    )
