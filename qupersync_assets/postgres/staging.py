"""Staging tables: temporary tables that batches are copied into, and the coercion of their values in SQL.

A job has two. The typed one has the types of the target, for rows that `transform` has coerced. The raw one
has the types in which Redshift sends the rows; PostgreSQL coerces their values exactly as `transform` does. A
batch with a value that it cannot coerce so meets `needs_coercion`, and is given to `transform`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from qupersync_assets.core.sql import quote_identifier as quote
from qupersync_assets.rows.coercion import Row
from qupersync_assets.spec import SyncSpec

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

# Python has fewer years than Redshift and PostgreSQL. NOT (... AND ...) fails in the WHERE of a COPY
# (PostgreSQL 18: "cache lookup failed for function 0").
_BEYOND_PYTHON = "{0} <= '0001-01-01' OR {0} >= '9999-12-31 23:59:59.999999'"
_NEEDS_ESCAPE = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_INTEGER_BITS = {"smallint": 16, "integer": 32, "bigint": 64}


class NeedsCoercion(Exception):
    """A strategy cannot load a batch: roll its transaction back, and use the next strategy."""


@dataclass(frozen=True)
class Staging:
    """A staging table, empty after each transaction."""

    name: str  # of the temporary table
    types: Mapping[str, str]  # PostgreSQL type of each column, by name, in the order of the copied values
    values: Mapping[str, str]  # SQL expression of each target column, by name
    is_numbered: bool = False  # whether a column `_row` numbers the rows, to find the last one of each key
    needs_coercion: str = "false"  # a condition: only `transform` can coerce a row that meets it

    @property
    def definition(self) -> str:
        """The statement that creates the table, once per session."""
        columns = [f"{quote(name)} {type_}" for name, type_ in self.types.items()]
        if self.is_numbered:
            columns.append("_row bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000)")
        return f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.name} ({', '.join(columns)}) ON COMMIT DELETE ROWS"

    @property
    def invalid_rows(self) -> str:
        """The query for the positions, from 0 on, of the copied rows that need coercion."""
        numbered = f"SELECT row_number() OVER (ORDER BY ctid) - 1 AS n, {self.needs_coercion} AS found FROM {self.name}"
        return f"SELECT n FROM ({numbered}) AS r WHERE found"

    def copy(self, form: str) -> str:
        """Return the statement that fills the table from rows in the COPY format `form`."""
        return f"COPY {self.name} ({', '.join(map(quote, self.types))}) FROM STDIN (FORMAT {form})"


def typed_staging(spec: SyncSpec) -> Staging:
    """Return the staging table for rows that have the types of the target."""
    types = {c.name: ddl(c) for c in spec.columns}
    return Staging(f"staging_{spec.table.name}", types, {name: quote(name) for name in types}, True)


def raw_staging(spec: SyncSpec, labels: Sequence[str], types: Sequence[str]) -> Staging | None:
    """Return the staging table for raw rows with these labels and types (names of `WireType`); None if
    PostgreSQL cannot coerce them as `transform` does."""
    received = dict(zip(labels, types, strict=True))
    values, conditions = {}, []
    for column in spec.columns:
        name = quote(column.name)
        found = _coercion(name, received.get(column.name, ""), column.type)
        if found is None:
            return None
        values[column.name], condition = found
        conditions += [condition] if condition else []
        conditions += [] if column.nullable else [f"{name} IS NULL"]
    needs_coercion = " OR ".join(f"({c})" for c in conditions) or "false"
    return Staging(f"staging_raw_{spec.table.name}", received, values, needs_coercion=needs_coercion)


def _coercion(name: str, wire: str, type_: sa.types.TypeEngine[object]) -> tuple[str, str | None] | None:
    """Return the SQL that coerces a received value, and the condition under which only `transform` can."""
    if isinstance(type_, sa.Text):
        if wire == "text":
            return name, None
        return (f"{name}::text", None) if wire in (*_INTEGER_BITS, "oid") else None
    if isinstance(type_, sa.Boolean):
        return (name, None) if wire == "boolean" else None
    if isinstance(type_, sa.DateTime):
        if wire not in ("timestamp", "timestamptz"):
            return None
        value = f"{name} AT TIME ZONE 'UTC'" if wire == "timestamp" else name
        return value, _BEYOND_PYTHON.format(name)
    if isinstance(type_, sa.Integer):
        bits = 64 if isinstance(type_, sa.BigInteger) else 32
        if wire == "text":
            is_integer = rf"{name} ~ '^-?\d+(\.0*)?$'"
            # The merge casts keys before it evaluates `needs_coercion`; infinity must not fail there.
            value = f"CASE WHEN {is_integer} THEN {name}::numeric::bigint END"
            return value, _not_or(is_integer, f"{name}::numeric {_beyond(bits)}", name)
        if wire == "oid" and bits == 64:
            return f"{name}::bigint", None
        if wire in _INTEGER_BITS:
            return name, (f"{name} {_beyond(bits)}" if _INTEGER_BITS[wire] > bits else None)
    if type(type_) is sa.Numeric and type_.precision is not None and wire in ("text", *_INTEGER_BITS):
        value, scale = f"{name}::numeric", type_.scale or 0
        too_large = f"abs(round({value}, {scale})) >= 1e{type_.precision - scale}"
        is_number = rf"{name} ~ '^-?\d+(\.\d*)?$'"
        return value, (_not_or(is_number, too_large, name) if wire == "text" else too_large)
    return None


def _beyond(bits: int) -> str:
    return f"NOT BETWEEN {-(1 << (bits - 1))} AND {(1 << (bits - 1)) - 1}"


def _not_or(is_number: str, is_too_large: str, name: str) -> str:
    """Return the condition that a text is no number or too large; NULL is neither."""
    return f"CASE WHEN {is_number} THEN {is_too_large} ELSE {name} IS NOT NULL END"


def ddl(column: sa.Column[Any]) -> str:
    """Return the type of a column as DDL."""
    return column.type.compile(_DIALECT)


def copy_text(rows: Sequence[Row]) -> bytes:
    """Return rows in COPY's text format.

    https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS-TEXT
    """
    columns = [_fields(column) for column in zip(*rows, strict=True)]
    return ("\n".join(map("\t".join, zip(*columns, strict=True))) + "\n").encode()


def _fields(column: Sequence[Any]) -> list[str]:
    """Return the values of one column, which have one type, as text."""
    kinds = set(map(type, column)) - {type(None)}
    if kinds == {str}:
        # One search through all values is much faster than one search per value.
        plain = _NEEDS_ESCAPE.search("".join(filter(None, column))) is None
        return ["\\N" if v is None else v if plain else v.translate(_ESCAPES) for v in column]
    if kinds == {bool}:
        return ["\\N" if v is None else "t" if v else "f" for v in column]
    return ["\\N" if v is None else str(v) for v in column]
