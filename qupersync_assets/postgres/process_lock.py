"""Advisory locks that a process holds as long as it lives: the proof, for other machines, that it does.

PostgreSQL releases the lock when the session ends, also if its client was killed; keepalives end the session of a
machine that has disappeared (see `connection.PINNED`).
"""

import select
import socket
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa

from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.forks import FORK_LOCK
from qupersync_assets.postgres.advisory_lock import HELD_KEYS, lock_key
from qupersync_assets.postgres.resource import postgres_errors

# Seconds between two looks at the connection, which cost no statement.
LOOK_SECONDS = 1.0

_NO_CLUSTER = ""
_LOCK = sa.text("SELECT set_config('application_name', :holder, false), pg_try_advisory_lock(:key)")
_HOLDER = sa.text(
    """
    SELECT a.application_name, coalesce(host(a.client_addr), 'a local socket'), a.pid, a.backend_start
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND (l.classid::bigint << 32) | l.objid::bigint = :key
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
)


class ProcessLock:
    """An advisory lock on a connection of its own; nothing is opened before `take`.

    Args:
        engine: the database.
        name: what is locked.
        holder: who holds it, for people; the session's application name, which is cut off after 63 bytes.
    """

    def __init__(self, engine: sa.Engine, name: str, holder: str) -> None:
        self._engine = engine
        self._names = {"key": lock_key(_NO_CLUSTER, name), "holder": holder}
        self._connection: sa.Connection | None = None

    def take(self) -> bool:
        """Take the lock over a new connection; return whether this process holds it now.

        Raises:
            SyncError: PostgreSQL cannot be reached.
        """
        self.release()
        with postgres_errors("A lock in PostgreSQL could not be taken"):
            connection = self._engine.connect()
            connection.detach()  # a connection that returns to the pool would keep the lock
            try:
                with connection.begin():
                    is_taken = bool(connection.execute(_LOCK, self._names).one()[1])
            except BaseException:
                connection.close()
                raise
        if is_taken:
            self._connection = connection
        else:
            connection.close()
        return is_taken

    def is_held(self) -> bool:
        """Return whether the session still exists, without a statement: a server sends an idle session its end only."""
        if self._connection is None:
            return False
        driver = self._connection.connection.dbapi_connection
        with suppress(Exception):  # any error of the connection means that it is lost
            if select.select([driver.fileno()], [], [], 0)[0]:  # type: ignore[union-attr]
                driver.poll()  # type: ignore[union-attr]
            return not driver.closed  # type: ignore[union-attr]
        return False

    def held_by(self) -> str:
        """Describe the process that holds the lock."""
        with postgres_errors("The holder of a lock in PostgreSQL could not be read"), self._engine.begin() as session:
            holder = session.execute(_HOLDER, self._names).first()
        if holder is None:
            return "another process, which has just ended"
        name, address, pid, since = tuple(holder)
        return f"{name or 'a process'}, from {address}, PostgreSQL process {pid}, since {since:%Y-%m-%d %H:%M:%S} UTC"

    def release(self) -> None:
        """End the session, which releases the lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it may be lost already
                connection.close()


def this_process(what: str, place: str) -> str:
    """Return the name of a holder: what it does, on which machine, and where."""
    return f"{what} on {socket.gethostname()[:20]}, {place}"


@contextmanager
def living_run(engine: sa.Engine, run_id: str) -> Iterator[None]:
    """Show other machines that a run is alive: a thread takes its lock, also again after PostgreSQL was restarted."""
    lock = ProcessLock(engine, run_id, this_process("qupersync run", run_id[:8]))
    ended = threading.Event()

    def keep() -> None:
        while True:
            with FORK_LOCK:
                if not lock.is_held():
                    with suppress(SyncError):
                        lock.take()
            if ended.wait(LOOK_SECONDS):
                lock.release()
                return

    thread = threading.Thread(target=keep, name="living_run", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=2)


def living_runs(connection: sa.Connection, run_ids: Collection[str]) -> set[str]:
    """Return those of the runs whose process is alive, on whichever machine."""
    held = set(connection.scalars(HELD_KEYS))
    return {run_id for run_id in run_ids if lock_key(_NO_CLUSTER, run_id) in held}
