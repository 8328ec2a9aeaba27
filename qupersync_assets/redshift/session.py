"""A session in Redshift: small results as rows, large ones in pages through a cursor."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.pool import PoolProxiedConnection

from qupersync_assets.core.errors import is_refusal, message, sqlstate, sync_error
from qupersync_assets.core.redaction import redacted
from qupersync_assets.redshift.wire_protocol import RawFetcher, cut_off
from qupersync_assets.rows.page import AnyPage, Pages, concat_pages

# A single-node cluster refuses larger fetches: https://docs.aws.amazon.com/redshift/latest/dg/fetch.html
SINGLE_NODE_FETCH = 1000

_cursor_numbers = itertools.count(1)


class Session:
    """A connection to Redshift, in a transaction since its first statement."""

    def __init__(self, connection: PoolProxiedConnection, variables: str = "REDSHIFT") -> None:
        """
        Args:
            connection: from the pool; no other thread uses it.
            variables: prefix of the cluster's environment variables, for error messages.
        """
        self._connection = connection
        self._variables = variables

    def rows(self, sql: str) -> list[Any]:
        """All rows of a SELECT with a small answer.

        Raises:
            SyncError: Redshift refuses the statement, or breaks off.
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
            SyncError: Redshift refuses the statement, or breaks off; the session is good for another
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
            told = sync_error(as_driver_error(error), self._variables, "Reading from Redshift failed")
            raise told from redacted(error)


def as_driver_error(error: Exception) -> Exception:
    """The error, or what it means where the driver has stumbled over bytes that make no sense.

    The driver believes the lengths and codes that it reads. Where a connection ends within a message, or
    bytes are garbled, it fails in any way: with a KeyError, a struct.error, a UnicodeDecodeError ...
    """
    from redshift_connector.error import Error

    if isinstance(error, Error | OSError):
        return error
    return ConnectionError(f"the answer broke off or makes no sense ({type(error).__name__}: {error})")


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
    with closing(RawFetcher(connection.dbapi_connection).fetch_pages(cursor, name, fetch)) as fetched:
        for piece in fetched:
            pieces.append(piece)
            if len(pieces) == size // fetch:
                yield concat_pages(pieces)
                pieces = []
    if pieces:
        yield concat_pages(pieces)
    # Ends the cursor with its transaction, and leaves nothing to do when the session ends.
    connection.rollback()
