"""A session in Redshift: small results as rows, large ones in pages through a cursor."""

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.pool import PoolProxiedConnection

from qupersync_assets.core.errors import (
    FEATURE_NOT_SUPPORTED,
    is_over_cursor_limit,
    is_refusal,
    message,
    sqlstate,
    sync_error,
)
from qupersync_assets.core.redaction import redacted
from qupersync_assets.redshift.time_slices import TimeSlices
from qupersync_assets.redshift.wire_protocol import RawFetcher, cut_off
from qupersync_assets.rows.page import AnyPage, Pages, concat_pages

# A single-node cluster refuses larger fetches: https://docs.aws.amazon.com/redshift/latest/dg/fetch.html
SINGLE_NODE_FETCH = 1000
_cursor_numbers = itertools.count(1)


class Session:
    """A connection to Redshift, in a transaction since its first statement; no other thread uses it.

    Error messages name the cluster's environment variables by their prefix, `variables`. Each method raises SyncError
    if Redshift refuses the statement, and the session can be used again, or if the connection fails.
    """

    def __init__(self, connection: PoolProxiedConnection, variables: str = "REDSHIFT") -> None:
        self._connection = connection
        self._variables = variables

    def rows(self, sql: str) -> list[Any]:
        """Return all rows of a SELECT with a small result."""
        with self._errors():
            cursor = self._connection.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall())

    def clock(self) -> datetime:
        """Return Redshift's current time; the session's time zone is UTC."""
        now: datetime = self.rows("SELECT GETDATE()")[0][0]
        return now.replace(tzinfo=UTC)

    def cut_off(self) -> None:
        """End the session, also from another thread; a thread that waits for an answer gets an error."""
        cut_off(self._connection)

    def pages(self, sql: str, size: int, slices: TimeSlices | None = None) -> Pages:
        """Run one SELECT and yield its rows; only one page is kept in memory.

        A page has `size` rows; a single-node cluster refuses larger fetches: there it is rounded down to a
        multiple of 1000. The last page may be shorter; an empty result yields no page. A result that is larger than
        the cluster allows for a cursor is read in `slices`.
        """
        with self._errors():
            try:
                yield from self._slice(slices.statement(sql) if slices else sql, size)
            except Exception as error:
                # The first fetch was refused: nothing has been read.
                if slices is None or not slices.halves or not is_over_cursor_limit(error):
                    raise
                self._connection.rollback()
            else:
                return
        for half in slices.halves:
            yield from self.pages(sql, size, half)

    def _slice(self, sql: str, size: int) -> Pages:
        try:
            yield from _pages(self._connection, sql, size, size)
        except Exception as error:
            if size <= SINGLE_NODE_FETCH or not _is_too_large(error):
                raise
            # The first fetch was refused: nothing has been read.
            self._connection.rollback()
            yield from _pages(self._connection, sql, size, SINGLE_NODE_FETCH)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except GeneratorExit:
            raise  # the reader stopped; the session is idle
        except BaseException as error:
            if is_refusal(error):
                self._connection.rollback()
            else:
                # The server may still be busy: a rollback would wait for it.
                self._connection.invalidate(error)
            if not isinstance(error, Exception):
                raise
            cause = as_driver_error(error)
            raise sync_error(cause, self._variables, "Reading from Redshift failed") from redacted(error)


def as_driver_error(error: Exception) -> Exception:
    """Return the error, or a ConnectionError if the driver failed on a truncated or corrupted answer.

    The driver does not validate the lengths and codes that it reads: such an answer raises a KeyError, a
    struct.error, a UnicodeDecodeError or any other error.
    """
    from redshift_connector.error import Error

    if isinstance(error, Error | OSError):
        return error
    return ConnectionError(f"the answer is truncated or corrupted ({type(error).__name__}: {error})")


def _is_too_large(error: Exception) -> bool:
    """Return whether a single-node cluster refused the size of a fetch."""
    return is_refusal(error) and sqlstate(error) == FEATURE_NOT_SUPPORTED and "fetch size" in message(error).lower()


def _pages(connection: Any, sql: str, size: int, fetch: int) -> Pages:
    """Yield the rows of a SELECT in pages of at most `size` rows, each made of fetches of `fetch` rows."""
    cursor = connection.cursor()
    # The driver caches prepared statements by their text: each cursor needs its own name.
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
    # End the cursor together with its transaction.
    connection.rollback()
