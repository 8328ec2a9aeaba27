"""Pages of rows between source and target: decoded, or as Redshift sent them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from qupersync_assets.core.errors import ErrorClass, SyncError


@dataclass(frozen=True)
class Page:
    """Rows as the driver decodes them.

    Attributes:
        columns: the labels, in the order of the values.
        rows: one sequence of values a row.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def decoded(self) -> Page:
        """Itself."""
        return self


_LENGTH = struct.Struct("!i")

# What comes before and after the rows in COPY's binary format.
COPY_HEADER, COPY_END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"


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
class RawPage:
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
            SyncError: the bytes make no sense.
        """
        return Page(self.columns, self._decode(self.bodies))

    def ends(self, column: str) -> tuple[Any, Any]:
        """The values of a column in the first and in the last row.

        Raises:
            SyncError: the bytes make no sense.
        """
        at = self.columns.index(column)
        first, last = self._decode([self.bodies[0], self.bodies[-1]])
        return first[at], last[at]

    def _decode(self, bodies: Sequence[bytes]) -> list[list[Any]]:
        decoders = [t.decode for t in self.types]
        try:
            return [_decoded(decoders, body) for body in bodies]
        except (struct.error, LookupError, ValueError, ArithmeticError) as error:
            said = f"the answer makes no sense ({type(error).__name__}: {error})"
            text = f"Reading from Redshift failed: {said}."
            raise SyncError(text, ErrorClass.TRANSIENT, server_message=said) from error


def concat_pages(pieces: Sequence[AnyPage]) -> AnyPage:
    """Pages of one statement as one."""
    first = pieces[0]
    if isinstance(first, Page):
        return replace(first, rows=[row for p in pieces if isinstance(p, Page) for row in p.rows])
    return replace(first, bodies=[b for p in pieces if isinstance(p, RawPage) for b in p.bodies])


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


def copy_binary(bodies: Sequence[bytes]) -> bytes:
    """Bodies of DataRow messages as COPY's binary format."""
    return b"".join([COPY_HEADER, *bodies, COPY_END])


AnyPage: TypeAlias = Page | RawPage

Pages: TypeAlias = Generator[AnyPage, None, None]
