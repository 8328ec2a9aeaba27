"""Rows as they come over the wire: what this project knows of the insides of redshift_connector.

The body of a DataRow message has the layout of a tuple of COPY's binary format, so that a row need not become
Python objects on its way to PostgreSQL:
https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-DATAROW
https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS-BINARY
"""

from __future__ import annotations

import socket
import struct
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias

from qupersync_assets.errors import ErrorClass, LoadError
from qupersync_assets.transform import Page

_DATA_ROW = b"D"
_TEXT, _BINARY = 0, 1
_LENGTH = struct.Struct("!i")


@dataclass(frozen=True)
class WireType:
    """How values of one column come.

    Attributes:
        name: the PostgreSQL type whose binary format they have, as DDL statements write it; `text` also for
            what comes in text format.
        decode: the driver's function that makes a Python object of them.
    """

    name: str
    decode: Callable[[bytes, int, int], Any]


@dataclass(frozen=True)
class UndecodedPage:
    """Rows as Redshift has sent them.

    Attributes:
        columns: the labels, in the order of the values.
        types: how the values of each column come.
        bodies: one body of a DataRow message a row.
    """

    columns: tuple[str, ...]
    types: tuple[WireType, ...]
    bodies: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.bodies)

    def decoded(self) -> Page:
        """The rows as the driver would have decoded them.

        Raises:
            LoadError: the bytes make no sense.
        """
        decoders = [t.decode for t in self.types]
        try:
            return Page(self.columns, [_decoded(decoders, body) for body in self.bodies])
        except (struct.error, LookupError, ValueError, ArithmeticError) as error:
            said = f"the answer makes no sense ({type(error).__name__}: {error})"
            text = f"Reading from Redshift failed: {said}."
            raise LoadError(text, ErrorClass.TRANSIENT, said=said) from error


def joined(pieces: Sequence[AnyPage]) -> AnyPage:
    """Pages of one statement as one."""
    first = pieces[0]
    if isinstance(first, Page):
        return replace(first, rows=[row for p in pieces if isinstance(p, Page) for row in p.rows])
    return replace(first, bodies=[b for p in pieces if isinstance(p, UndecodedPage) for b in p.bodies])


def _decoded(decoders: Sequence[Callable[[bytes, int, int], Any]], body: bytes) -> list[Any]:
    row, at = [], 2
    for decode in decoders:
        (length,) = _LENGTH.unpack_from(body, at)
        at += 4
        row.append(None if length < 0 else decode(body, at, length))
        at += max(length, 0)
    if at != len(body):
        raise ValueError(f"a row of {len(body)} bytes has values of {at}")
    return row


AnyPage: TypeAlias = Page | UndecodedPage
Pages: TypeAlias = Generator[AnyPage, None, None]


class Tap:
    """Takes rows from a connection of redshift_connector before they are decoded, as a context manager.

    Where the driver is not built as it is known to be, it warns once and lets the driver decode.
    """

    def __init__(self, connection: Any) -> None:
        self._messages = connection.message_types
        self._decode = self._messages[_DATA_ROW]
        self._types = _known_types(connection)
        self._cursor: Any = None
        self._bodies: list[bytes] = []
        if not self._types:
            warnings.warn(
                "This version of redshift_connector is built differently from the known ones: "
                "rows are decoded, which takes longer.",
                stacklevel=2,
            )

    def __enter__(self) -> Self:
        if self._types:
            self._messages[_DATA_ROW] = self._receive
        return self

    def __exit__(self, *_: object) -> None:
        self._messages[_DATA_ROW] = self._decode

    def fetch(self, cursor: Any, statement: str) -> AnyPage:
        """Run a statement with a cursor of the connection, and return all its rows.

        They are not decoded if the types of all columns are known.
        """
        self._cursor, self._bodies = cursor if self._types else None, []
        try:
            cursor.execute(statement)
        finally:
            self._cursor = None
        columns = tuple(d[0] for d in cursor.description)
        types = self._wire_types(cursor) if self._types else None
        if types is not None:
            return UndecodedPage(columns, types, self._bodies)
        for body in self._bodies:
            self._decode(body, cursor)
        return Page(columns, cursor.fetchall())

    def _receive(self, body: bytes, cursor: Any) -> None:
        if cursor is self._cursor:
            self._bodies.append(body)
        else:
            self._decode(body, cursor)

    def _wire_types(self, cursor: Any) -> tuple[WireType, ...] | None:
        found = [self._types.get(field["type_oid"]) for field in cursor.ps["row_desc"]]
        return None if None in found else tuple(found)  # type: ignore[arg-type]


def _known_types(connection: Any) -> dict[int, WireType]:
    """The types, by OID, that this connection's driver asks for in the known formats; none if it is built
    differently."""
    try:
        from redshift_connector.utils import type_utils as driver
        from redshift_connector.utils.oids import RedshiftOID as Oid

        if connection.message_types[_DATA_ROW] != connection.handle_DATA_ROW:
            return {}
        texts = dict.fromkeys((Oid.TEXT, Oid.STRING, Oid.BPCHAR, Oid.NAME), ("text", _BINARY, text_recv))
        known = {
            Oid.BOOLEAN: ("boolean", _BINARY, driver.bool_recv),
            Oid.SMALLINT: ("smallint", _BINARY, driver.int2_recv),
            Oid.INTEGER: ("integer", _BINARY, driver.int4_recv),
            Oid.BIGINT: ("bigint", _BINARY, driver.int8_recv),
            Oid.OID: ("oid", _BINARY, driver.oid_recv),
            # As text, whatever version of the protocol the server speaks.
            Oid.NUMERIC: ("text", _TEXT, driver.numeric_in),
            Oid.TIMESTAMP: ("timestamp", _BINARY, driver.timestamp_recv_integer),
            Oid.TIMESTAMPTZ: ("timestamptz", _BINARY, driver.timestamptz_recv_integer),
            **texts,
        }
        return {
            int(oid): WireType(name, decode)
            for oid, (name, form, decode) in known.items()
            if connection.redshift_types[oid] == (form, decode)
        }
    except (ImportError, AttributeError, LookupError, TypeError):
        return {}


def text_recv(data: bytes, offset: int, length: int) -> str:
    """A text as the driver reads it, but for bytes that are no UTF-8: each becomes U+FFFD.

    Columns of system views count bytes, and a text may be cut within a character: the driver would fail the
    page for it.
    """
    return data[offset : offset + length].decode("utf-8", "replace")


def read_any_text(connection: Any) -> None:
    """Let a connection read texts with `text_recv`."""
    from redshift_connector.utils.type_utils import text_recv as strict

    for oid, (form, receive) in connection.redshift_types.items():
        if receive is strict:
            connection.redshift_types[oid] = (form, text_recv)


def cut_off(connection: Any) -> None:
    """End a connection from another thread; if it waits for an answer, the wait ends with an error."""
    with suppress(OSError, AttributeError):  # it has ended, or the pool has given it up
        connection._usock.shutdown(socket.SHUT_RDWR)
