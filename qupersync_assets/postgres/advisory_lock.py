"""One writer a job: the connection of a load, which holds the job's lock as long as it lives.

https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS: a session's lock is freed when
the session ends, also when its client is killed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from qupersync_assets.core.errors import LOCK_NOT_AVAILABLE, sqlstate

# A session that has ended, ours of the attempt before perhaps, keeps its locks for a moment.
_PATIENCE = sa.text("SET LOCAL lock_timeout = '2s'")
_LOCK = sa.text("SELECT pg_advisory_lock(:key)")
# A bigint key is shown in two halves.
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


_HELD = sa.text(
    "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted "
    "AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def _key(cluster: str, sync_job_id: str) -> int:
    digest = hashlib.blake2b(f"{cluster}\n{sync_job_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def locked_jobs(connection: sa.Connection, cluster: str, sync_job_ids: Collection[str]) -> set[str]:
    """Those of the jobs that some process loads right now."""
    locks = set(connection.scalars(_HELD))
    return {job for job in sync_job_ids if _key(cluster, job) in locks}


class JobLocked(Exception):
    """Another process loads this job of this cluster; the text says which."""


class JobConnection:
    """A connection of its own for the load of one job, which holds its lock; opened when it is needed.

    Attributes:
        cluster: the source cluster.
        opened: how many connections there have been: what is temporary is as old as the last of them.
    """

    def __init__(self, engine: sa.Engine, cluster: str, sync_job_id: str) -> None:
        self.cluster = cluster
        self.opened = 0
        self._engine = engine
        self._job = sync_job_id
        self._connection: sa.Connection | None = None

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction, committed at the end or rolled back by an error; a lost connection is replaced.

        Raises:
            JobLocked: another process holds the lock.
            sqlalchemy.exc.DBAPIError, TimeoutError: PostgreSQL cannot be reached, or refuses.
        """
        connection = self._connection or self._open()
        try:
            with connection.begin():
                yield connection
        except BaseException:
            if connection.invalidated or connection.connection.closed:
                self.close()
            raise

    def close(self) -> None:
        """End the session, and with it the lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> sa.Connection:
        names = {"key": _key(self.cluster, self._job), "cluster": self.cluster, "job": self._job}
        connection = self._engine.connect()
        connection.detach()  # from the pool, where it would keep the lock
        try:
            with connection.begin():
                connection.execute(_PATIENCE)
                connection.execute(_LOCK, names)
        except sa.exc.DBAPIError as error:
            try:
                if sqlstate(error) != LOCK_NOT_AVAILABLE:
                    raise
                with connection.begin():
                    holder = connection.execute(_HOLDER, names).first()
                raise JobLocked(self._busy(holder)) from None
            finally:
                connection.close()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.opened += 1
        return connection

    def _busy(self, holder: sa.Row[Any] | None) -> str:
        if holder is None:
            return f"Another process was loading {self._job} of cluster {self.cluster}"
        pid, client, since, run_id = tuple(holder)
        return (
            f"{self._job} of cluster {self.cluster} is being loaded by run {run_id or 'unknown'}, "
            f"from {client}, PostgreSQL process {pid}, since {since}"
        )
