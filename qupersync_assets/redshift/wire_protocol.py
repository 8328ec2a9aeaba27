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
from contextlib import suppress
from typing import Any

from qupersync_assets.rows.page import Page, Pages, RawPage, WireType

# https://www.postgresql.org/docs/current/protocol-message-formats.html
_DATA_ROW, _READY = b"D", b"Z"

_DATA_ROW_CODE = _DATA_ROW[0]

# Bytes that are asked for at once.
_CHUNK = 1 << 17

_TEXT, _BINARY = 0, 1

_LENGTH = struct.Struct("!i")


class RawFetcher:
    """Takes rows from a connection of redshift_connector before they are decoded.

    Where the driver is not built as it is known to be, it warns once and lets the driver decode.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._types = _known_types(connection)
        # The rows of the last answer, and how many further requests are under way.
        self._bodies: list[bytes] = []
        self._asked = 0
        self._is_called = False
        # Bytes of the next answer that have come already.
        self._rest = b""

    def fetch_pages(self, cursor: Any, name: str, rows: int) -> Pages:
        """Fetch from a cursor of Redshift until there is nothing more; not decoded if all types are known.

        While one answer is on its way the next one is asked for already, lest each wait for the network.

        Args:
            cursor: a cursor of the driver, which fetches.
            name: the cursor in Redshift.
            rows: how many rows to ask for at once.
        """
        statement = f"FETCH FORWARD {rows} FROM {name}"
        if not self._is_tapped(cursor, statement):
            while found := cursor.fetchall():
                yield Page(_labels(cursor), found)
                cursor.execute(statement)
            return
        request, columns, types = _request(cursor), _labels(cursor), self._wire_types(cursor)
        try:
            # A short answer may be a slow server's: only an empty one is the end.
            while bodies := self._bodies:
                is_full = len(bodies) == rows
                if is_full and not self._asked:
                    self._ask(request)
                if types is not None:
                    yield RawPage(columns, types, bodies)
                else:
                    for body in bodies:
                        self._connection.handle_DATA_ROW(body, cursor)
                    yield Page(columns, cursor.fetchall())
                if is_full or not self._asked:
                    self._ask(request)
                self._bodies = []
                self._receive(cursor)
        finally:
            # Leave the session as idle as if nothing had been asked for in advance.
            while self._asked:
                with suppress(Exception):
                    self._receive(cursor)

    def _is_tapped(self, cursor: Any, statement: str) -> bool:
        """Run the first FETCH, and return whether its rows were taken; else the driver has them, decoded."""
        self._bodies, self._is_called = [], False
        if self._types:
            self._connection.handle_messages = self._receive
        try:
            cursor.execute(statement)
        finally:
            vars(self._connection).pop("handle_messages", None)
        if not self._is_called:
            warnings.warn(
                "This version of redshift_connector is built differently from the known ones: "
                "rows are decoded, which takes longer.",
                stacklevel=2,
            )
        return self._is_called

    def _ask(self, request: bytes) -> None:
        self._connection._write(request)
        self._connection._flush()
        self._asked += 1

    def _receive(self, cursor: Any) -> None:
        """Read until Redshift is ready again, like the driver's method of that place, but quicker."""
        connection, unpack = self._connection, _LENGTH.unpack_from
        receive, handlers = connection._read.__self__.read1, connection.message_types
        self._is_called = True
        # If it breaks off, nothing more is to be expected.
        asked, self._asked = self._asked, 0
        connection.error = None
        buffer, at = self._rest, 0
        # What follows belongs to the next answer, if there is one.
        is_ready, has_next = False, asked > 1
        while True:
            end = len(buffer)
            while at + 5 <= end and not (is_ready and has_next):
                stop = at + 1 + unpack(buffer, at + 1)[0]
                if stop > end:
                    break
                if stop < at + 5:
                    raise ValueError(f"a message of {stop - at} bytes")
                if buffer[at] == _DATA_ROW_CODE:
                    self._bodies.append(buffer[at + 5 : stop])
                else:
                    code = buffer[at : at + 1]
                    handlers[code](buffer[at + 5 : stop], cursor)
                    is_ready = is_ready or code == _READY
                at = stop
            if is_ready and (has_next or at == end):
                break
            more = receive(_CHUNK)
            if not more:
                raise ConnectionResetError("Redshift has closed the connection")
            buffer, at = buffer[at:] + more, 0
        self._rest, self._asked = buffer[at:], max(asked - 1, 0)
        if connection.error is not None:
            raise connection.error

    def _wire_types(self, cursor: Any) -> tuple[WireType, ...] | None:
        found = [self._types.get(field["type_oid"]) for field in cursor.ps["row_desc"]]
        return None if None in found else tuple(found)  # type: ignore[arg-type]


def _labels(cursor: Any) -> tuple[str, ...]:
    return tuple(column[0] for column in cursor.description)


def _request(cursor: Any) -> bytes:
    """The messages Bind, Execute and Sync that run the statement again that a cursor has run.

    https://www.postgresql.org/docs/current/protocol-message-formats.html
    """
    bind = cursor.ps["bind_1"] + cursor.ps["bind_2"]
    execute = b"\0" + bytes(4)
    return b"".join(
        code + _LENGTH.pack(len(body) + 4) + body
        for code, body in ((b"B", bind), (b"E", execute), (b"S", b""))
    )


def _known_types(connection: Any) -> dict[int, WireType]:
    """The types, by OID, that this connection's driver asks for in the known formats; none if it is built
    differently."""
    try:
        from redshift_connector.utils import type_utils as driver
        from redshift_connector.utils.oids import RedshiftOID as Oid

        if connection.message_types[_DATA_ROW] != connection.handle_DATA_ROW:
            return {}
        if not callable(connection.handle_messages) or not callable(connection._read.__self__.read1):
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
