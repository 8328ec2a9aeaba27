"""The temporary tables that batches are copied into, and how their values become those of the target.

There are two for a job: one of the target's own types, for rows that `transform` has coerced, and one of the
types in which rows come over the wire. What PostgreSQL cannot be trusted to coerce as `transform` would is in
needs_coercion: `transform` then judges that batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from qupersync_assets.core.sql import quote_identifier as quote
from qupersync_assets.spec import SyncSpec

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

# Redshift's years are those of PostgreSQL, Python's are fewer. Without NOT, which a COPY's WHERE makes an
# error of (PostgreSQL 18: "cache lookup failed for function 0").
_BEYOND_PYTHON = "{0} <= '0001-01-01' OR {0} >= '9999-12-31 23:59:59.999999'"
_INTEGER_BITS = {"smallint": 16, "integer": 32, "bigint": 64}


class NeedsCoercion(Exception):
    """A batch cannot be loaded in this way; the transaction has to be rolled back, and another way taken."""


@dataclass(frozen=True)
class Staging:
    """A temporary table, empty after each transaction.

    Attributes:
        name: its name.
        types: the type of each column, by name, in the order in which they are copied.
        values: the SQL expression of each column of the target, by name.
        is_numbered: whether it has a column `_row` with the numbers of the rows, so that of two with one key
            the later one can be told.
        needs_coercion: a condition on a row that calls for `transform`.
    """

    name: str
    types: Mapping[str, str]
    values: Mapping[str, str]
    is_numbered: bool = False
    needs_coercion: str = "false"

    @property
    def definition(self) -> str:
        """The statement that creates it, once in a session."""
        columns = [f"{quote(name)} {type_}" for name, type_ in self.types.items()]
        if self.is_numbered:
            columns.append("_row bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000)")
        return (
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.name} ({', '.join(columns)}) ON COMMIT DELETE ROWS"
        )

    def copy(self, form: str) -> str:
        """The statement that fills it, from rows in COPY's format `form`."""
        return f"COPY {self.name} ({', '.join(map(quote, self.types))}) FROM STDIN (FORMAT {form})"


def typed_staging(spec: SyncSpec) -> Staging:
    """For rows that have the types of the target."""
    types = {c.name: ddl(c) for c in spec.columns}
    return Staging(f"staging_{spec.table.name}", types, {name: quote(name) for name in types}, True)


def raw_staging(spec: SyncSpec, labels: Sequence[str], types: Sequence[str]) -> Staging | None:
    """For rows as they come over the wire, None if PostgreSQL cannot coerce them as `transform` does.

    Args:
        labels: the names of the values that come, in their order.
        types: what they come as, see `wire.WireType`.
    """
    received = dict(zip(labels, types, strict=True))
    values, conditions = {}, []
    for column in spec.columns:
        name = quote(column.name)
        found = _coercion(name, received.get(column.name, ""), column.type)
        if found is None:
            return None
        values[column.name], needs_coercion = found
        conditions += [needs_coercion] if needs_coercion else []
        conditions += [] if column.nullable else [f"{name} IS NULL"]
    name = f"staging_wire_{spec.table.name}"
    return Staging(
        name, received, values, needs_coercion=" OR ".join(f"({d})" for d in conditions) or "false"
    )


def _coercion(name: str, wire: str, type_: sa.types.TypeEngine[object]) -> tuple[str, str | None] | None:
    """The expression that makes a value of one type from another, and when `transform` shall judge it."""
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
            # Keys are cast before `needs_coercion` is evaluated: infinity must not fail there.
            value = f"CASE WHEN {is_integer} THEN {name}::numeric::bigint END"
            return value, _unless(is_integer, f"{name}::numeric {_beyond(bits)}", name)
        if wire == "oid" and bits == 64:
            return f"{name}::bigint", None
        if wire in _INTEGER_BITS:
            return name, (f"{name} {_beyond(bits)}" if _INTEGER_BITS[wire] > bits else None)
    if type(type_) is sa.Numeric and type_.precision is not None and wire in ("text", *_INTEGER_BITS):
        value, scale = f"{name}::numeric", type_.scale or 0
        too_large = f"abs(round({value}, {scale})) >= 1e{type_.precision - scale}"
        is_number = rf"{name} ~ '^-?\d+(\.\d*)?$'"
        return value, (_unless(is_number, too_large, name) if wire == "text" else too_large)
    return None


def _beyond(bits: int) -> str:
    return f"NOT BETWEEN {-(1 << (bits - 1))} AND {(1 << (bits - 1)) - 1}"


def _unless(is_number: str, refused: str, name: str) -> str:
    return f"CASE WHEN {is_number} THEN {refused} ELSE {name} IS NOT NULL END"


def ddl(column: sa.Column[Any]) -> str:
    """The type of a column, as DDL statements write it."""
    return column.type.compile(_DIALECT)
