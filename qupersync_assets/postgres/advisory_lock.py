"""The connection of a load: it holds the advisory lock of its job, so that a job has one writer.

https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS: PostgreSQL releases the lock
when the session ends, also if its client was killed.
"""

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from qupersync_assets.core.errors import LOCK_NOT_AVAILABLE, READ_ONLY_TRANSACTION, sqlstate

# A session that ends, for example that of the previous attempt, keeps its locks for a moment.
_LOCK_TIMEOUT = sa.text("SET LOCAL lock_timeout = '2s'")
_LOCK = sa.text("SELECT pg_advisory_lock(:key)")
# A crash of the server loses the last batches together; the next load reads them again.
_NOT_DURABLE = sa.text("SET synchronous_commit = off")
# https://www.postgresql.org/docs/current/wal-async-commit.html: it makes the commits before it durable, too.
_DURABLE = sa.text("SET LOCAL synchronous_commit TO DEFAULT")
# pg_locks shows a bigint key in two halves.
_HOLDER = sa.text(
    """
    SELECT a.pid, coalesce(host(a.client_addr), 'a local socket'), date_trunc('second', a.backend_start),
           (SELECT run_id FROM quper.sync_logs WHERE cluster = :cluster AND sync_job_id = :job
            AND status = 'running' ORDER BY id DESC LIMIT 1)
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND (l.classid::bigint << 32) | l.objid::bigint = :key
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
)
HELD_KEYS = sa.text(
    "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted "
    "AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def lock_key(cluster: str, sync_job_id: str) -> int:
    """Return the key of an advisory lock of a cluster: of a job, or of something else with a name."""
    digest = hashlib.blake2b(f"{cluster}\n{sync_job_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def locked_jobs(connection: sa.Connection, cluster: str, sync_job_ids: Collection[str]) -> set[str]:
    """Return the jobs of a cluster that a process is loading now."""
    locks = set(connection.scalars(HELD_KEYS))
    return {job for job in sync_job_ids if lock_key(cluster, job) in locks}


class JobLocked(Exception):
    """Another process loads this job of this cluster; the text names it."""


class JobConnection:
    """A connection outside the pool that holds the advisory lock of one job; opened by the first `begin`."""

    def __init__(self, engine: sa.Engine, cluster: str, sync_job_id: str) -> None:
        self.cluster = cluster
        self.opened = 0  # connections so far; a new one has none of the temporary tables of the former
        self._engine = engine
        self._job = sync_job_id
        self._connection: sa.Connection | None = None

    @contextmanager
    def begin(self, *, durable: bool = False) -> Iterator[sa.Connection]:
        """Begin a transaction that is committed at the end, or rolled back by an error.

        The `begin` after the loss of a connection opens a new one. The commit waits for the disk if it is `durable`.

        Raises:
            JobLocked: another process holds the lock.
            sqlalchemy.exc.DBAPIError, TimeoutError: PostgreSQL cannot be reached, or refuses a statement.
        """
        connection = self._connection or self._open()
        try:
            with connection.begin():
                if durable:
                    connection.execute(_DURABLE)
                yield connection
        except BaseException as error:
            is_lost = connection.invalidated or connection.connection.closed
            if not is_lost and sqlstate(error) == READ_ONLY_TRANSACTION:
                # After a failover a new connection finds the new primary; those of the pool do not.
                self._engine.dispose()
                is_lost = True
            if is_lost:
                self.close()
            raise

    def close(self) -> None:
        """End the session, which releases the lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> sa.Connection:
        names = {"key": lock_key(self.cluster, self._job), "cluster": self.cluster, "job": self._job}
        connection = self._engine.connect()
        connection.detach()  # a connection that returns to the pool would keep the lock
        try:
            try:
                with connection.begin():
                    connection.execute(_LOCK_TIMEOUT)
                    connection.execute(_LOCK, names)
                    connection.execute(_NOT_DURABLE)
            except sa.exc.DBAPIError as error:
                if sqlstate(error) != LOCK_NOT_AVAILABLE:
                    raise
                with connection.begin():
                    holder = connection.execute(_HOLDER, names).first()
                raise JobLocked(self._locked_by(holder)) from None
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.opened += 1
        return connection

    def _locked_by(self, holder: sa.Row[Any] | None) -> str:
        if holder is None:
            return f"Another process was loading {self._job} of cluster {self.cluster}"
        pid, client, since, run_id = tuple(holder)
        return (
            f"{self._job} of cluster {self.cluster} is being loaded by run {run_id or 'unknown'}, "
            f"from {client}, PostgreSQL process {pid}, since {since}"
        )
