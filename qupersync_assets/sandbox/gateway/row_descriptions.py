"""Describes results as Redshift does with describe_field_name_in_uppercase: the names of their columns in capitals.

https://docs.aws.amazon.com/redshift/latest/dg/r_describe_field_name_in_uppercase.html
"""

from __future__ import annotations

import struct
from typing import Protocol

_FIELD_FACTS = 18  # bytes after each name in RowDescription


class _Session(Protocol):
    uppercase_names: bool


class RowDescriptions:
    """Changes the server's messages of one session while its `uppercase_names` is true."""

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._buffer = b""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to send to the client; an incomplete message is kept until its end arrives."""
        data = self._buffer + data
        complete, at = [], 0
        while len(data) >= at + 5 and len(data) > (end := at + struct.unpack_from("!i", data, at + 1)[0]):
            message, at = data[at : end + 1], end + 1
            is_changed = message[:1] == b"T" and self._session.uppercase_names
            complete.append(_in_capitals(message) if is_changed else message)
        self._buffer = data[at:]
        return b"".join(complete)


def _in_capitals(message: bytes) -> bytes:
    """Return a RowDescription, of the same length, with the names in capitals."""
    at, changed = 7, bytearray(message)
    for _ in range(struct.unpack_from("!h", message, 5)[0]):
        end = message.index(b"\0", at)
        changed[at:end] = message[at:end].upper()
        at = end + 1 + _FIELD_FACTS
    return bytes(changed)
