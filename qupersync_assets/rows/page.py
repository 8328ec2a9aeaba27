"""Pages of rows: decoded by the driver, or raw, in the format in which Redshift sent them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from qupersync_assets.core.errors import ErrorClass, SyncError


@dataclass(frozen=True)
class Page:
    """Rows that the driver has decoded; `columns` are the labels, in the order of the values."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def decoded(self) -> Page:
        """Return the page itself."""
        return self

    def take(self, positions: Sequence[int]) -> Page:
        """Return a page with the rows at these positions."""
        return replace(self, rows=[self.rows[position] for position in positions])

    def values(self, column: str) -> list[Any]:
        """Return the values of a column."""
        at = self.columns.index(column)
        return [row[at] for row in self.rows]


class DamagedText(str):
    """A text in which U+FFFD stands for bytes that are not UTF-8."""


_LENGTH = struct.Struct("!i")
Decode: TypeAlias = Callable[[bytes, int, int], Any]

# The bytes before and after the rows in COPY's binary format.
COPY_HEADER, COPY_END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"


@dataclass(frozen=True)
class WireType:
    """The format of the values of one column, and the driver's function that decodes one."""

    # The PostgreSQL type that has this binary format, as DDL; `text` for values in text format.
    name: str
    decode: Decode


@dataclass(frozen=True)
class RawPage:
    """Rows in the format in which Redshift sent them: one body of a DataRow message per row."""

    columns: tuple[str, ...]
    types: tuple[WireType, ...]
    bodies: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.bodies)

    def of(self, bodies: Sequence[bytes]) -> RawPage:
        """Return a page with other rows of the same form."""
        return replace(self, bodies=bodies)

    def take(self, positions: Sequence[int]) -> RawPage:
        """Return a page with the rows at these positions."""
        return self.of([self.bodies[position] for position in positions])

    def decoded(self) -> Page:
        """Return the rows as the driver would have decoded them, or raise SyncError if the bytes do not fit."""
        return Page(self.columns, self._decode(self.bodies))

    def ends(self, column: str) -> tuple[Any, Any]:
        """Return the values of a column in the first and in the last row, or raise SyncError like `decoded`."""
        at = self.columns.index(column)
        first, last = self._decode([self.bodies[0], self.bodies[-1]])
        return first[at], last[at]

    def values(self, column: str) -> list[Any]:
        """Return the values of a column, or raise SyncError like `decoded`."""
        last = self.columns.index(column) + 1  # the columns after it need not be decoded
        return [row[-1] for row in self._decode(self.bodies, last)]

    def _decode(self, bodies: Sequence[bytes], columns: int | None = None) -> list[list[Any]]:
        decoders = [t.decode for t in self.types[:columns]]
        is_whole = len(decoders) == len(self.types)
        try:
            return [_decoded(decoders, body, is_whole) for body in bodies]
        except (struct.error, LookupError, ValueError, ArithmeticError) as error:
            reason = f"a row cannot be decoded ({type(error).__name__}: {error})"
            raise SyncError(
                f"Reading from Redshift failed: {reason}.", ErrorClass.TRANSIENT, server_message=reason
            ) from error


def concat_pages(pieces: Sequence[AnyPage]) -> AnyPage:
    """Return the pages of one statement as one page."""
    first = pieces[0]
    if isinstance(first, Page):
        return replace(first, rows=[row for p in pieces if isinstance(p, Page) for row in p.rows])
    return replace(first, bodies=[b for p in pieces if isinstance(p, RawPage) for b in p.bodies])


def _decoded(decoders: Sequence[Decode], body: bytes, is_whole: bool) -> list[Any]:
    row, at = [], 2
    for decode in decoders:
        (length,) = _LENGTH.unpack_from(body, at)
        at += 4
        row.append(None if length < 0 else decode(body, at, length))
        at += max(length, 0)
    if is_whole and at != len(body):
        raise ValueError(f"a row of {len(body)} bytes has values of {at} bytes")
    return row


def copy_binary(bodies: Sequence[bytes]) -> bytes:
    """Return bodies of DataRow messages in COPY's binary format."""
    return b"".join([COPY_HEADER, *bodies, COPY_END])


AnyPage: TypeAlias = Page | RawPage
Pages: TypeAlias = Generator[AnyPage, None, None]
