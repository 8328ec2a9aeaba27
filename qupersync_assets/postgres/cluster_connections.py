"""quper.cluster_connections: whether each cluster can be reached, and the gate for logins that depends on it.

Redshift locks a user after some failed logins, and a tick of the schedule starts many jobs at once. Logins of a cluster
therefore wait for each other, and a failed one counts for all: it is stored here, because jobs run in several
processes or on several machines.
"""

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from qupersync_assets.core.errors import LOCK_NOT_AVAILABLE, LOGIN_REFUSED, NO_ANSWER, PAUSED, ErrorClass, SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.postgres.advisory_lock import lock_key
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings.redshift_login import RedshiftSettings
from qupersync_assets.spec import CLUSTER_COMMENT, METADATA

T = TypeVar("T")
_UTC = sa.DateTime(timezone=True)
_LOGIN = "16 bits of a salted hash of the login: enough to notice a changed password, too few to find it"


class ConnectionState(StrEnum):
    """How the last login ended."""

    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"  # no server answered, or it broke off
    REFUSED = "refused"  # the server, or AWS, refused the login


CLUSTER_CONNECTIONS = sa.Table(
    "cluster_connections",
    METADATA,
    sa.Column("cluster", sa.Text, primary_key=True, comment=CLUSTER_COMMENT),
    sa.Column("state", sa.Text, nullable=False, comment=", ".join(ConnectionState)),
    sa.Column("since", _UTC, nullable=False, comment="start of this state (UTC)"),
    sa.Column("checked_at", _UTC, nullable=False, comment="last attempt to log in (UTC)"),
    sa.Column("next_check_at", _UTC, comment="scheduled syncs wait until then (UTC); NULL: they do not wait"),
    sa.Column("run_id", sa.Text, nullable=False, comment="the Dagster run of that attempt"),
    sa.Column("login", sa.Text, nullable=False, comment=_LOGIN),
    sa.Column("problem", sa.Text, comment="SQLSTATE or name of the error; NULL if reachable"),
    sa.Column("error", sa.Text, comment="why the login failed"),
    comment="Whether each cluster can be reached: one row per cluster.",
)

# Shortest and longest time to the next scheduled login; between them it doubles. A refused user may be locked by
# Redshift after five failures; a cluster that was resumed should be synced soon.
_DELAYS = {
    ConnectionState.UNREACHABLE: (timedelta(minutes=1), timedelta(minutes=15)),
    ConnectionState.REFUSED: (timedelta(minutes=15), timedelta(hours=6)),
}
# A step that hangs in its login must not stop the others forever.
_EXTRA_SECONDS = 20


@dataclass(frozen=True)
class Connection:
    """The row of a cluster whose last login failed."""

    state: ConnectionState
    since: datetime
    checked_at: datetime
    next_check_at: datetime
    run_id: str
    login: str
    problem: str
    error: str

    @property
    def is_of_network(self) -> bool:
        """Whether no server answered: another one that does is worth a login."""
        return self.problem in NO_ANSWER

    @property
    def is_paused(self) -> bool:
        """Whether AWS has reported that the cluster is paused."""
        return self.problem == PAUSED

    def is_of(self, login: RedshiftSettings) -> bool:
        """Return whether it was this login, with the same settings and secrets."""
        return hmac.compare_digest(self.login, _fingerprint(login, self.login.partition(":")[0]))


def failed_connections(connection: sa.Connection) -> dict[str, Connection]:
    """Return the clusters whose last login failed."""
    names = list(Connection.__dataclass_fields__)
    columns = (CLUSTER_CONNECTIONS.c[name] for name in ("cluster", *names))
    failed = sa.select(*columns).where(CLUSTER_CONNECTIONS.c.state != ConnectionState.REACHABLE)
    return {
        row["cluster"]: Connection(ConnectionState(row["state"]), *(row[name] for name in names[1:]))
        for row in connection.execute(failed).mappings()
    }


@dataclass(frozen=True)
class ConnectionGate:
    """The gate for the logins of a run to one cluster: see `redshift.login_gate`.

    After `patience` seconds without a connection an error is not retried, and one login per run is enough: its retries
    would only repeat it.
    """

    postgres: PostgresResource
    cluster: str
    run_id: str
    patience: float

    def attempt(
        self,
        login: RedshiftSettings,
        resolve: Callable[[RedshiftSettings], RedshiftSettings],
        connect: Callable[[RedshiftSettings], T],
        *,
        is_main: bool,
    ) -> T:
        """Return `connect(resolve(login))` while no other process logs in; record how it ended.

        A failed login counts for the jobs that waited for it, and for the later ones of the run if it was refused
        or lasts. If the holder of the lock hangs, it is not waited for longer than a login may take.

        Raises:
            SyncError: this login or that one failed; FATAL if a retry of the step would not help.
        """
        failure: SyncError | None = None
        connected: T | None = None
        try:
            with self.postgres.transaction() as transaction:
                seconds = login.connect_timeout + _EXTRA_SECONDS
                transaction.execute(sa.text(f"SET LOCAL lock_timeout = '{seconds}s'"))
                key = lock_key(self.cluster, "login")
                transaction.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
                known = failed_connections(transaction).get(self.cluster)
                started, now = transaction.execute(sa.select(sa.func.now(), sa.func.clock_timestamp())).one()
                used = login
                try:
                    self._spare(known, login, started, now, is_main)
                    used = resolve(login)
                    if used is not login:
                        self._spare(known, used, started, now, is_main)
                    connected = connect(used)
                except SyncError as error:
                    failure = error  # also if it cannot be recorded
                    self._record(transaction, known, used, error, is_main)
                else:
                    if is_main:
                        self._record_success(transaction, used)
        except SyncError as error:
            if error.sqlstate != LOCK_NOT_AVAILABLE:
                if connected is not None:
                    return connected  # only the record was lost
                raise failure or error from error.__cause__
            return connect(resolve(login))
        if failure is not None:
            raise failure from failure.__cause__
        return connected  # type: ignore[return-value]

    def _spare(
        self, known: Connection | None, login: RedshiftSettings, started: datetime, now: datetime, is_main: bool
    ) -> None:
        """Raise the error of a failed login that counts for this one too."""
        if known is None or not known.is_of(login) or not (is_main or known.problem in LOGIN_REFUSED):
            return
        lasts = known.state is ConnectionState.REFUSED or self._is_persistent(known.since, now)
        if known.checked_at >= started or (known.run_id == self.run_id and lasts):
            raise _KnownError(known, ErrorClass.FATAL if lasts else ErrorClass.TRANSIENT)

    def _is_persistent(self, since: datetime, now: datetime) -> bool:
        return (now - since).total_seconds() > self.patience

    def _record(
        self,
        transaction: sa.Connection,
        known: Connection | None,
        login: RedshiftSettings,
        error: SyncError,
        is_main: bool,
    ) -> None:
        """Record a failed login, and complete its error."""
        if isinstance(error, _KnownError) or not (is_main or error.problem in LOGIN_REFUSED):
            return
        is_refused = error.error_class is ErrorClass.FATAL and error.problem != "HOST"
        state = ConnectionState.REFUSED if is_refused else ConnectionState.UNREACHABLE
        now = transaction.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        is_same = known is not None and known.state is state and (not is_refused or known.is_of(login))
        since = known.since if known is not None and is_same else now
        shortest, longest = _DELAYS[state]
        self._write(
            transaction,
            state=state,
            since=since,
            checked_at=now,
            next_check_at=now + min(max(now - since, shortest), longest),
            run_id=self.run_id,
            login=_fingerprint(login, os.urandom(8).hex()),
            problem=error.problem,
            error=redact(str(error)),
        )
        error.connection = state
        if not is_refused and self._is_persistent(since, now):
            error.error_class = ErrorClass.FATAL

    def _record_success(self, transaction: sa.Connection, login: RedshiftSettings) -> None:
        c = CLUSTER_CONNECTIONS.c
        row = transaction.execute(sa.select(c.state).where(c.cluster == self.cluster)).scalar()
        if row == ConnectionState.REACHABLE:
            return
        now = sa.func.clock_timestamp()
        self._write(
            transaction,
            state=ConnectionState.REACHABLE,
            since=now,
            checked_at=now,
            next_check_at=None,
            run_id=self.run_id,
            login=_fingerprint(login, os.urandom(8).hex()),
            problem=None,
            error=None,
        )

    def _write(self, transaction: sa.Connection, **columns: object) -> None:
        new = insert(CLUSTER_CONNECTIONS).values(cluster=self.cluster, **columns)
        transaction.execute(new.on_conflict_do_update(index_elements=["cluster"], set_=columns))


class _KnownError(SyncError):
    """The error of another login, which was not tried again."""

    def __init__(self, known: Connection, error_class: ErrorClass) -> None:
        state = known.problem if len(known.problem) == 5 else None
        super().__init__(known.error, error_class, state, known.error, known.problem)
        self.connection = known.state


def _fingerprint(login: RedshiftSettings, salt: str) -> str:
    digest = hashlib.sha256(f"{salt}\0{login.identity()}".encode()).hexdigest()
    return f"{salt}:{digest[:4]}"
