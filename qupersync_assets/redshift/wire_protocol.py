"""Fetches rows without decoding them; the only module that uses internals of redshift_connector.

The body of a DataRow message has the layout of a tuple in COPY's binary format. A row therefore need not
become Python objects on its way to PostgreSQL:
https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-DATAROW
https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS-BINARY
"""

import socket
import struct
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from qupersync_assets.rows.page import DamagedText, Page, Pages, RawPage, WireType

# https://www.postgresql.org/docs/current/protocol-message-formats.html
_DATA_ROW, _READY, _COMMAND_COMPLETE = b"D", b"Z", b"C"
_DATA_ROW_CODE = _DATA_ROW[0]
# Bytes per read from the socket.
_CHUNK = 1 << 17
# Bytes of the longest message: rows of system views have a few KB. A longer one comes of a corrupted length.
_LONGEST_MESSAGE = 1 << 26
# Rows that are decoded both ways before pages with their types are passed on raw.
_COMPARED_ROWS = 100
_TEXT, _BINARY = 0, 1
_LENGTH = struct.Struct("!i")

# Types whose raw values this process has compared with those that the driver decodes.
_compared_types: set[WireType] = set()


class RawFetcher:
    """Fetches rows from a connection of redshift_connector before the driver decodes them.

    If the driver's internals are not the known ones, it warns and lets the driver decode.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._types = _known_types(connection)
        # Whether the answer of the last FETCH was received here, and the number of rows that it states: new servers do.
        self._is_received = False
        self._stated: int | None = None
        # The rows of the last answer, the number of requests without an answer, and received bytes of the next one.
        self._bodies: list[bytes] = []
        self._pending = 0
        self._rest = b""

    def fetch_pages(self, cursor: Any, name: str, rows: int) -> Pages:
        """Fetch from the Redshift cursor `name` until it is exhausted; yield RawPages if all types are known.

        The next FETCH is sent before the answer of the last one is complete, which saves a round trip each.
        """
        statement = f"FETCH FORWARD {rows} FROM {name}"
        if not self._is_raw(cursor, statement):
            while found := cursor.fetchall():
                yield Page(_labels(cursor), found)
                cursor.execute(statement)
            return
        request, columns = _request(cursor), _labels(cursor)
        types = tuple(self._types[oid] for field in cursor.ps["row_desc"] if (oid := field["type_oid"]) in self._types)
        try:
            # A slow server may give fewer rows than requested: only an empty answer is the end.
            while bodies := self._bodies:
                is_full = len(bodies) == rows
                if is_full and not self._pending:
                    self._send(request)
                # If all types are known, the page stays raw.
                raw = RawPage(columns, types, bodies) if len(types) == len(columns) else None
                yield raw if raw and self._is_as_decoded(raw, cursor) else self._decoded(bodies, cursor)
                if is_full or not self._pending:
                    self._send(request)
                self._bodies, self._stated = [], None
                self._receive(cursor)
                self._check_count()
        finally:
            # Receive the pending answers, so that the session is idle.
            while self._pending:
                with suppress(Exception):
                    self._receive(cursor)

    def _is_raw(self, cursor: Any, statement: str) -> bool:
        """Run the first FETCH; return whether its rows are raw. If not, the driver has decoded them."""
        self._bodies, self._is_received, self._stated = [], False, None
        if self._types:
            self._connection.handle_messages = self._receive
        try:
            cursor.execute(statement)
        finally:
            vars(self._connection).pop("handle_messages", None)
        if not self._is_received:
            _warn("unknown internals")
            return False
        self._check_count()
        return True

    def _check_count(self) -> None:
        if self._stated not in (None, len(self._bodies)):
            raise ValueError(f"{len(self._bodies)} of {self._stated} rows arrived")

    def _is_as_decoded(self, page: RawPage, cursor: Any) -> bool:
        """Return whether rows with types that are new to this process are those that the driver decodes."""
        if not self._types or _compared_types.issuperset(page.types):
            return bool(self._types)
        sample = RawPage(page.columns, page.types, page.bodies[:_COMPARED_ROWS])
        rows = [list(row) for row in sample.decoded().rows]
        if rows == [list(row) for row in self._decoded(sample.bodies, cursor).rows]:
            values = zip(page.types, zip(*rows, strict=True), strict=True)
            _compared_types.update(t for t, column in values if any(value is not None for value in column))
            return True
        _warn("another format of rows")
        self._types = {}
        return False

    def _decoded(self, bodies: Sequence[bytes], cursor: Any) -> Page:
        for body in bodies:
            self._connection.handle_DATA_ROW(body, cursor)
        return Page(_labels(cursor), cursor.fetchall())

    def _send(self, request: bytes) -> None:
        self._connection._write(request)
        self._connection._flush()
        self._pending += 1

    def _receive(self, cursor: Any) -> None:
        """Read until Redshift is ready for a query; a faster replacement of the driver's handle_messages."""
        connection, unpack = self._connection, _LENGTH.unpack_from
        receive, handlers = connection._read.__self__.read1, connection.message_types
        # After an error no further answer is expected.
        pending, self._pending = self._pending, 0
        connection.error = None
        buffer, at = self._rest, 0
        # Bytes after ReadyForQuery belong to the next answer.
        is_ready, has_next = False, pending > 1
        while True:
            end = len(buffer)
            while at + 5 <= end and not (is_ready and has_next):
                stop = at + 1 + unpack(buffer, at + 1)[0]
                if not at + 5 <= stop <= at + _LONGEST_MESSAGE:
                    raise ValueError(f"a message of {stop - at} bytes, more than {_LONGEST_MESSAGE} or too few")
                if stop > end:
                    break
                if buffer[at] == _DATA_ROW_CODE:
                    self._bodies.append(buffer[at + 5 : stop])
                else:
                    code = buffer[at : at + 1]
                    handlers[code](buffer[at + 5 : stop], cursor)
                    if code == _COMMAND_COMPLETE:
                        self._is_received, self._stated = True, _stated_rows(buffer[at + 5 : stop])
                    is_ready = is_ready or code == _READY
                at = stop
            if is_ready and (has_next or at == end):
                break
            # Read a long message in pieces that are joined once.
            pieces, wanted = [buffer[at:]], stop - end if end >= at + 5 else 1
            while wanted > 0:
                if not (more := receive(_CHUNK)):
                    raise ConnectionResetError("Redshift closed the connection")
                pieces.append(more)
                wanted -= len(more)
            buffer, at = b"".join(pieces), 0
        self._rest, self._pending = buffer[at:], max(pending - 1, 0)
        if connection.error is not None:
            raise connection.error


def _warn(reason: str) -> None:
    warnings.warn(f"This version of redshift_connector has {reason}: it decodes rows, which is slower.", stacklevel=3)


def _stated_rows(tag: bytes) -> int | None:
    """Return the number of rows in the tag of CommandComplete; PostgreSQL before 8.2 has none in that of FETCH."""
    number = tag.rstrip(b"\0").rpartition(b" ")[2]
    return int(number) if number.isdigit() else None


def _labels(cursor: Any) -> tuple[str, ...]:
    return tuple(column[0] for column in cursor.description)


def _request(cursor: Any) -> bytes:
    """Return the messages Bind, Execute and Sync that run the cursor's last statement again."""
    messages = ((b"B", cursor.ps["bind_1"] + cursor.ps["bind_2"]), (b"E", bytes(5)), (b"S", b""))
    return b"".join(code + _LENGTH.pack(len(body) + 4) + body for code, body in messages)


def _known_types(connection: Any) -> dict[int, WireType]:
    """Return the types, by OID, that the driver requests in a known format; none if its internals differ."""
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
            # As text in every version of the protocol.
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
    """Return a text, a DamagedText if some bytes are not UTF-8.

    Redshift cuts texts of system views after a number of bytes, possibly within a character. The driver would
    fail on such a text.
    """
    received = data[offset : offset + length]
    try:
        return received.decode("utf-8")
    except UnicodeDecodeError:
        return DamagedText(received.decode("utf-8", "replace"))


def adapt(connection: Any) -> None:
    """Make a connection decode texts with `text_recv`, and read all answers with its method handle_messages.

    The driver's option merge_socket_read reads with another method, which never returns from a rollback.
    """
    connection.handle_messages_merge_socket_read = lambda cursor: connection.handle_messages(cursor)
    from redshift_connector.utils.type_utils import text_recv as strict

    for oid, (form, receive) in connection.redshift_types.items():
        if receive is strict:
            connection.redshift_types[oid] = (form, text_recv)


def cut_off(connection: Any) -> None:
    """End a connection from another thread; a thread that waits for an answer gets an error."""
    with suppress(OSError, AttributeError):  # already closed
        connection._usock.shutdown(socket.SHUT_RDWR)
