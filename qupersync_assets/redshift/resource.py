"""Pooled connections of redshift_connector to one Redshift cluster.

Cursors: https://docs.aws.amazon.com/redshift/latest/dg/declare.html (one open per session, inside a
transaction). The driver's own fetchmany would load the whole result first.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, Field, PrivateAttr
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import QueuePool

from qupersync_assets.core.errors import sync_error
from qupersync_assets.core.redaction import learn_secret, redacted
from qupersync_assets.redshift.authentication import Account, Aws, login_arguments, trusting, with_secret
from qupersync_assets.redshift.session import Session, as_driver_error
from qupersync_assets.redshift.wire_protocol import read_any_text

# Marks QuperSync's own queries for administrators and for workload management.
QUERY_GROUP = "qupersync"

# Seconds that the socket waits beyond the statement timeout of the server.
_EXTRA_SECONDS = 15

# Errors of the driver if the server's answer to the login is truncated.
_GARBLED = (struct.error, LookupError, UnicodeDecodeError)


class RedshiftResource(BaseModel):
    """Connections to one Redshift cluster; the first session opens the first one."""

    host: str | None = Field(default=None, description="Endpoint; None where AWS tells it.")
    port: int = Field(default=5439, description="Its port.")
    database: str | None = Field(default=None, description="Database; None where the secret tells it.")
    user: str | None = Field(default=None, description="User to connect as; None where AWS tells it.")
    password: str | None = Field(default=None, repr=False, description="Password, from REDSHIFT_PASSWORD.")
    aws: Aws = Field(default_factory=Aws, description="How to get a password from AWS.")
    ssl: bool = Field(default=True, description="Whether to insist on TLS.")
    sslmode: str = Field(default="verify-full", description="verify-ca or verify-full.")
    ssl_ca: str | None = Field(default=None, description="PEM file of a private CA, trusted too.")
    connect_timeout: int = Field(default=10, description="Seconds to wait for a connection.")
    statement_timeout: int = Field(default=300, description="Seconds that one statement may take.")

    _pool: QueuePool | None = PrivateAttr(default=None)

    def dispose(self) -> None:
        """Close the pooled connections."""
        if self._pool is not None:
            self._pool.dispose()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session of the pool.

        Raises:
            SyncError: Redshift cannot be reached or refuses the login.
        """
        if self._pool is None:
            self._pool = QueuePool(self._connect, pool_size=1, max_overflow=4, recycle=3600)
            event.listen(self._pool, "connect", _mark_as_fresh)
            event.listen(self._pool, "checkout", _check_alive)
        try:
            connection = self._pool.connect()
        except Exception as error:
            doing = f"No connection to Redshift at {self._account()}"
            told = as_driver_error(error) if isinstance(error, _GARBLED) else error
            raise sync_error(told, self.aws.prefix, doing, self.aws.variables) from redacted(error)
        try:
            yield Session(connection, self.aws.prefix)
        finally:
            connection.close()  # the pool rolls back

    def _account(self) -> Account:
        return Account(self.host, self.port, self.database, self.user, self.password)

    def _connect(self) -> Any:
        import redshift_connector  # slow to import, and only a process that reads needs it

        # Asked for anew each time: a password from AWS expires, or is rotated.
        account = with_secret(self._account(), self.aws) if self.aws.secret_arn else self._account()
        learn_secret(account.password)
        if account.host:
            # The driver has one time-out for connecting and reading: find out first whether anybody listens.
            address = (account.host, account.port)
            socket.create_connection(address, timeout=self.connect_timeout).close()
        with trusting(self.ssl_ca):
            connection = redshift_connector.connect(
                **login_arguments(account, self.aws),
                ssl=self.ssl,
                sslmode=self.sslmode,
                timeout=self.statement_timeout + _EXTRA_SECONDS,
                application_name="qupersync",
            )
        read_any_text(connection)
        cursor = connection.cursor()
        cursor.execute("SET timezone TO 'UTC'")
        cursor.execute(f"SET query_group TO '{QUERY_GROUP}'")
        cursor.execute(f"SET statement_timeout TO {self.statement_timeout * 1000}")
        connection.commit()
        return connection


def _mark_as_fresh(_connection: Any, record: Any) -> None:
    record.info["fresh"] = True


def _check_alive(connection: Any, record: Any, _proxy: Any) -> None:
    """Make the pool replace a connection that has died while it lay idle."""
    if record.info.pop("fresh", False):
        return
    try:
        connection.cursor().execute("SELECT 1")
        connection.rollback()
    except Exception as error:
        raise DisconnectionError from error
