"""Pooled connections of redshift_connector to one Redshift cluster.

Cursors: https://docs.aws.amazon.com/redshift/latest/dg/declare.html (one open per session, inside a
transaction). The driver's own fetchmany would load the whole result first.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import QueuePool

from qupersync_assets.core.errors import LOGIN_REFUSED, SyncError, sync_error
from qupersync_assets.core.redaction import learn_secret, redacted
from qupersync_assets.redshift.authentication import learn_temporary_logins, login_arguments, resolved, trusting
from qupersync_assets.redshift.availability import paused_error
from qupersync_assets.redshift.login_gate import LoginGate, OpenGate
from qupersync_assets.redshift.session import Session, as_driver_error
from qupersync_assets.redshift.wire_protocol import adapt
from qupersync_assets.settings.redshift import with_current_credentials
from qupersync_assets.settings.redshift_login import RedshiftSettings

# Marks QuperSync's own queries for administrators and for workload management.
QUERY_GROUP = "qupersync"
# Seconds that the socket waits beyond the statement timeout of the server.
_EXTRA_SECONDS = 15
# Errors of the driver if the server's answer to the login is truncated.
_GARBLED = (struct.error, LookupError, UnicodeDecodeError)


class RedshiftResource:
    """Connections to one Redshift cluster; the first session opens the first one, if the gate lets it pass."""

    def __init__(self, settings: RedshiftSettings, gate: LoginGate | None = None) -> None:
        self.settings = settings
        self._gate = gate or OpenGate()
        self._is_main = True
        self._pool: QueuePool | None = None

    def dispose(self) -> None:
        """Close the pooled connections."""
        if self._pool is not None:
            self._pool.dispose()

    @contextmanager
    def session(self, database: str | None = None) -> Iterator[Session]:
        """Check a session out of the pool, or raise SyncError if Redshift cannot be reached or refuses the login.

        A session of another `database` than that of the settings is closed at the end: nothing is kept open there.
        """
        if database is not None and database != self.settings.database:
            other = RedshiftResource(self.settings.model_copy(update={"database": database}), self._gate)
            other._is_main = False
            try:
                with other.session() as session:
                    yield session
            finally:
                other.dispose()
            return
        if self._pool is None:
            self._pool = QueuePool(self._connect, pool_size=1, max_overflow=4, recycle=3600)
            event.listen(self._pool, "connect", lambda _, record: record.info.update(fresh=True))
            event.listen(self._pool, "checkout", _check_alive)
        with _login_errors(self.settings):
            connection = self._pool.connect()
        try:
            yield Session(connection, self.settings.prefix)
        finally:
            connection.close()  # the pool rolls back

    def _connect(self) -> Any:
        # Each time, because passwords are rotated.
        login = with_current_credentials(self.settings)

        def resolve(of: RedshiftSettings) -> RedshiftSettings:
            with _login_errors(login):
                return resolved(of)

        def connect(to: RedshiftSettings) -> Any:
            try:
                with _login_errors(login):  # it names the variables that the user has set
                    return _log_in(to)
            except SyncError as error:
                paused = None if error.problem in LOGIN_REFUSED else paused_error(login)
                raise paused or error from error.__cause__

        return self._gate.attempt(login, resolve, connect, is_main=self._is_main)


@contextmanager
def _login_errors(login: RedshiftSettings) -> Iterator[None]:
    """Turn errors of a login into a SyncError."""
    try:
        yield
    except SyncError:
        raise
    except Exception as error:
        doing = f"No connection to Redshift at {login.endpoint}"
        checks = login.checks.replace("REDSHIFT_", f"{login.prefix}_")
        cause = as_driver_error(error) if isinstance(error, _GARBLED) else error
        raise sync_error(cause, login.prefix, doing, checks) from redacted(error)


def _log_in(login: RedshiftSettings) -> Any:
    import redshift_connector  # slow to import, and only a process that reads needs it

    arguments = login_arguments(login)
    learn_secret(arguments.get("password"))
    learn_temporary_logins()
    if login.host:
        # The driver has one timeout for connecting and reading: find out first whether the port answers.
        socket.create_connection((login.host, login.port), timeout=login.connect_timeout).close()
    with trusting(login.ssl_ca):
        timeout = login.statement_timeout + _EXTRA_SECONDS
        connection = redshift_connector.connect(
            **arguments, ssl=login.ssl, sslmode=login.sslmode, timeout=timeout, application_name="qupersync"
        )
    adapt(connection)
    cursor = connection.cursor()
    for name, value in session_settings(login).items():
        cursor.execute(f"SET {name} TO {value}")
    connection.commit()
    return connection


def session_settings(login: RedshiftSettings) -> dict[str, str]:
    """Return the settings of a session on which results depend, as SQL: those of the user or the cluster may differ."""
    return {
        "timezone": "'UTC'",
        "describe_field_name_in_uppercase": "off",
        "query_group": f"'{QUERY_GROUP}'",
        "statement_timeout": str(login.statement_timeout * 1000),
    }


def _check_alive(connection: Any, record: Any, _proxy: Any) -> None:
    """Make the pool replace a connection that was lost while it was idle."""
    if record.info.pop("fresh", False):
        return
    try:
        connection.cursor().execute("SELECT 1")
        connection.rollback()
    except Exception as error:
        raise DisconnectionError from error
