"""The Redshift side: pooled connections of redshift_connector, read page by page with server-side cursors.

Cursors: https://docs.aws.amazon.com/redshift/latest/dg/declare.html (one open per session, inside a
transaction). The driver's own fetchmany would load the whole result first.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from qupersync_assets.core.errors import (
    is_refusal,
    learn_secret,
    load_error,
    message,
    sqlstate,
    without_secrets,
)
from qupersync_assets.redshift.wire_protocol import AnyPage, Pages, Tap, cut_off, joined, read_any_text
from qupersync_assets.settings.redshift_login import Account, Aws, login_arguments, trusting, with_secret

# A single-node cluster refuses larger fetches: https://docs.aws.amazon.com/redshift/latest/dg/fetch.html
SINGLE_NODE_FETCH = 1000
# Shows administrators, and their workload management, which queries are ours.
QUERY_GROUP = "qupersync"
# Seconds after the server's own time-out, which comes first, until nothing more is expected of it.
_SPARE = 15
_cursor_numbers = itertools.count(1)
# What the driver raises while it logs in if the answers end within a message.
_GARBLED = (struct.error, LookupError, UnicodeDecodeError)


class AwsConfig(Aws, dg.Config):
    """`login.Aws` as a part of a resource's configuration."""


class Session:
    """A connection to Redshift, in a transaction since its first statement."""

    def __init__(self, connection: PoolProxiedConnection, variables: str = "REDSHIFT") -> None:
        """`variables`: what the names of its settings begin with, for what errors say."""
        self._connection = connection
        self._variables = variables

    def rows(self, sql: str) -> list[Any]:
        """All rows of a SELECT with a small answer.

        Raises:
            LoadError: Redshift refuses the statement, or breaks off.
        """
        with self._errors():
            cursor = self._connection.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall())

    def clock(self) -> datetime:
        """Redshift's own time, in UTC, as the session is."""
        now: datetime = self.rows("SELECT GETDATE()")[0][0]
        return now.replace(tzinfo=UTC)

    def cut_off(self) -> None:
        """End the session, from another thread too: what waits for its answer fails."""
        cut_off(self._connection)

    def pages(self, sql: str, size: int) -> Pages:
        """Run one SELECT and yield its rows, never more than one page in memory.

        Args:
            sql: a SELECT; it is not parsed for parameters.
            size: rows a page; where a single-node cluster refuses to give so many at once, the next lower
                multiple of 1000. The last page may be shorter, an empty result yields nothing.

        Raises:
            LoadError: Redshift refuses the statement, or breaks off; the session is good for another
                statement if it was refused.
        """
        with self._errors():
            try:
                yield from _pages(self._connection, sql, size, size)
            except Exception as error:
                if size <= SINGLE_NODE_FETCH or not _is_too_large(error):
                    raise
                # It was the first fetch: nothing has been read.
                self._connection.rollback()
                yield from _pages(self._connection, sql, size, SINGLE_NODE_FETCH)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except GeneratorExit:
            raise  # the reader has had enough; the session is idle
        except BaseException as error:
            if is_refusal(error):
                self._connection.rollback()
            else:
                # The session may still be at work: a rollback would wait for it.
                self._connection.invalidate(error)
            if not isinstance(error, Exception):
                raise
            told = load_error(_told(error), self._variables, "Reading from Redshift failed")
            raise told from without_secrets(error)


class RedshiftResource(dg.ConfigurableResource["RedshiftResource"]):
    """Connections to one Redshift cluster; nothing is opened before the first page is asked for."""

    host: str | None = Field(default=None, description="Endpoint; None where AWS tells it.")
    port: int = Field(default=5439, description="Its port.")
    database: str | None = Field(default=None, description="Database; None where the secret tells it.")
    user: str | None = Field(default=None, description="User to connect as; None where AWS tells it.")
    password: str | None = Field(default=None, repr=False, description="Password, from REDSHIFT_PASSWORD.")
    aws: AwsConfig = Field(default_factory=AwsConfig, description="How to get a password from AWS.")
    ssl: bool = Field(default=True, description="Whether to insist on TLS.")
    sslmode: str = Field(default="verify-full", description="verify-ca or verify-full.")
    ssl_ca: str | None = Field(default=None, description="PEM file of a private CA, trusted too.")
    connect_timeout: int = Field(default=10, description="Seconds to wait for a connection.")
    statement_timeout: int = Field(default=300, description="Seconds that one statement may take.")

    _pool: QueuePool | None = PrivateAttr(default=None)
    _sessions: set[Session] = PrivateAttr(default_factory=set)

    def cut_off(self) -> None:
        """End all sessions, from another thread too: what waits for an answer of Redshift fails."""
        for session in list(self._sessions):
            session.cut_off()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the pooled connections: whoever runs many times in one process must not collect them."""
        if self._pool is not None:
            self._pool.dispose()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session of the pool, for this thread alone.

        Raises:
            LoadError: Redshift cannot be reached or refuses the login.
        """
        if self._pool is None:
            self._pool = QueuePool(self._connect, pool_size=1, max_overflow=4, recycle=3600)
            event.listen(self._pool, "connect", _mark_as_fresh)
            event.listen(self._pool, "checkout", _check_alive)
        try:
            connection = self._pool.connect()
        except Exception as error:
            doing = f"No connection to Redshift at {self._account()}"
            told = _told(error) if isinstance(error, _GARBLED) else error
            raise load_error(told, self.aws.prefix, doing, self.aws.variables) from without_secrets(error)
        session = Session(connection, self.aws.prefix)
        self._sessions.add(session)
        try:
            yield session
        finally:
            self._sessions.remove(session)
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
                timeout=self.statement_timeout + _SPARE,
                application_name="qupersync",
            )
        read_any_text(connection)
        cursor = connection.cursor()
        cursor.execute("SET timezone TO 'UTC'")
        cursor.execute(f"SET query_group TO '{QUERY_GROUP}'")
        cursor.execute(f"SET statement_timeout TO {self.statement_timeout * 1000}")
        connection.commit()
        return connection


def _told(error: Exception) -> Exception:
    """The error, or what it means where the driver has stumbled over bytes that make no sense.

    The driver believes the lengths and codes that it reads. Where a connection ends within a message, or
    bytes are garbled, it fails in any way: with a KeyError, a struct.error, a UnicodeDecodeError ...
    """
    from redshift_connector.error import Error

    if isinstance(error, Error | OSError):
        return error
    return ConnectionError(f"the answer broke off or makes no sense ({type(error).__name__}: {error})")


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


def _is_too_large(error: Exception) -> bool:
    """Whether a single-node cluster has refused the size of a fetch."""
    return is_refusal(error) and sqlstate(error) == "0A000" and "fetch size" in message(error).lower()


def _pages(connection: Any, sql: str, size: int, fetch: int) -> Pages:
    """The rows of a SELECT in pages of at most `size`, each put together from fetches of `fetch` rows."""
    cursor = connection.cursor()
    # The driver keeps prepared statements by their text: a name of its own for every cursor keeps them apart.
    name = f"qupersync_{next(_cursor_numbers)}"
    cursor.execute(f"DECLARE {name} CURSOR FOR {sql}")
    pieces: list[AnyPage] = []
    with closing(Tap(connection.dbapi_connection).answers(cursor, name, fetch)) as answers:
        for piece in answers:
            pieces.append(piece)
            if len(pieces) == size // fetch:
                yield joined(pieces)
                pieces = []
    if pieces:
        yield joined(pieces)
    # Ends the cursor with its transaction, and leaves nothing to do when the session ends.
    connection.rollback()
