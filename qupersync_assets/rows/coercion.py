"""Coerce a page of source rows, by column name, to typed rows and skipped rows."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import sqlalchemy as sa

from qupersync_assets.rows.page import AnyPage, DamagedText, Page
from qupersync_assets.rows.row_counts import SkippedRow
from qupersync_assets.spec import SyncSpec

Row = tuple[Any, ...]


class InvalidValue(ValueError):
    """A value that its column cannot store; the text says why."""


class MissingColumn(LookupError):
    """The page lacks a column of the spec; the text names it."""


def transform(spec: SyncSpec, page: Page) -> tuple[list[Row], list[SkippedRow]]:
    """Coerce a page to the types of the spec; return valid rows, with values in the order of `spec.columns`, and
    skipped rows. If the page lacks a column, raise MissingColumn."""
    if not page.rows:
        return [], []
    values = dict(zip(page.columns, zip(*page.rows, strict=True), strict=True))
    invalid: dict[int, tuple[str, str]] = {}
    columns, key = [], spec.key_inputs
    for column in spec.columns:
        if column.name not in values:
            raise MissingColumn(f"the source of {spec.table.fullname} has no column {column.name}")
        coerce = _coercion(column, is_key=column.name in key)
        columns.append(_coerce_column(column.name, coerce, values[column.name], invalid))
    rows = list(zip(*columns, strict=True))
    if not invalid:
        return rows, []
    skipped = [
        SkippedRow(name, reason, dict(zip(page.columns, page.rows[i], strict=True)), key_of(spec, rows[i]))
        for i, (name, reason) in sorted(invalid.items())
    ]
    return [row for i, row in enumerate(rows) if i not in invalid], skipped


def key_of(spec: SyncSpec, row: Row) -> dict[str, Any]:
    """Return the valid values of a coerced row's key, by name."""
    names = {c.name for c in spec.key}
    return {c.name: v for c, v in zip(spec.columns, row, strict=True) if c.name in names and v is not None}


def key_inputs(spec: SyncSpec, page: AnyPage) -> list[tuple[Any, ...]]:
    """Return the coerced values of the key of each row, without generated columns; None for an invalid value."""
    columns = []
    for column in spec.columns:
        if column.name in spec.key_inputs:
            coerce = _coercion(column, is_key=True)
            columns.append(_coerce_column(column.name, coerce, page.values(column.name), {}))
    return list(zip(*columns, strict=True))


def _coerce_column(
    name: str, coerce: Callable[[Any], Any], values: Sequence[Any], invalid: dict[int, tuple[str, str]]
) -> Sequence[Any]:
    """Return the coerced values; an invalid value becomes None and gets an entry in `invalid`."""
    try:
        return [coerce(v) for v in values]
    except InvalidValue:
        pass
    valid = []
    for i, value in enumerate(values):
        try:
            valid.append(coerce(value))
        except InvalidValue as error:
            valid.append(None)
            invalid.setdefault(i, (name, str(error)))
    return valid


def _coercion(column: sa.Column[Any], *, is_key: bool) -> Callable[[Any], Any]:
    """Return the function that coerces a source value to the type of the column, or raises InvalidValue."""
    type_ = column.type
    coerce: Callable[[Any], Any]
    if isinstance(type_, sa.BigInteger):
        coerce = _integer("bigint", 64)
    elif isinstance(type_, sa.Integer):
        coerce = _integer("integer", 32)
    elif isinstance(type_, sa.Numeric):
        coerce = _numeric(type_)
    elif isinstance(type_, sa.Double):
        coerce = _double
    elif isinstance(type_, sa.Boolean):
        coerce = _boolean
    elif isinstance(type_, sa.DateTime):
        coerce = _timestamp
    elif isinstance(type_, sa.Text):
        coerce = _key_text if is_key else _text
    else:
        raise TypeError(f"no coercion to {type_!r} for column {column.name}")
    if column.nullable:
        return lambda value: None if value is None else coerce(value)

    def required(value: Any) -> Any:
        if value is None:
            raise InvalidValue("NULL in a key column")
        return coerce(value)

    return required


def _integer(name: str, bits: int) -> Callable[[Any], int]:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def coerce(value: Any) -> int:
        if type(value) is not int:
            value = _as_integer(value)
        if not low <= value <= high:
            raise InvalidValue(f"out of range for {name}")
        return int(value)

    return coerce


def _as_integer(value: Any) -> int:
    # A float would round above 2^53.
    number = None if isinstance(value, bool) else _decimal(value)
    if number and number.adjusted() > 19:
        raise InvalidValue("out of range for bigint")  # int() of a large exponent takes minutes
    if number is None or number != number.to_integral_value():
        raise InvalidValue("not an integer")
    return int(number)


def _decimal(value: Any) -> Decimal:
    try:
        number = value if isinstance(value, Decimal) else Decimal(str(value).strip())
    except InvalidOperation:
        raise InvalidValue("not a number") from None
    if not number.is_finite():
        raise InvalidValue(f"{number} is not a finite number")
    return number


def _numeric(type_: sa.Numeric[Any]) -> Callable[[Any], Decimal]:
    precision, scale = type_.precision or 1000, type_.scale or 0

    def coerce(value: Any) -> Decimal:
        if isinstance(value, bool):
            raise InvalidValue("not a number")
        number = _decimal(value)
        if number and number.adjusted() >= precision - scale:
            raise InvalidValue(f"out of range for numeric({precision},{scale})")
        return number

    return coerce


def _double(value: Any) -> float:
    if isinstance(value, bool):
        raise InvalidValue("not a number")
    number = float(_decimal(value))
    if math.isinf(number):
        raise InvalidValue("out of range for double precision")
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("t", "true", "f", "false"):
        return value.strip().lower().startswith("t")
    raise InvalidValue("not a boolean")


def _timestamp(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise InvalidValue("not a timestamp") from None
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise InvalidValue("not a timestamp")
    if value.tzinfo is None:
        # The driver returns these limits of Python for infinity and for years outside 1 to 9999.
        if value in (datetime.min, datetime.max):
            raise InvalidValue("outside the years 1 to 9999, or infinity")
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidValue("outside the years 1 to 9999, or infinity") from None


def _text(value: Any) -> str:
    text = str(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidValue("not valid Unicode text (a lone surrogate)") from None
    return text.replace("\0", "")


def _key_text(value: Any) -> str:
    # Without the bytes that PostgreSQL cannot store, two keys could become one.
    text = _text(value)
    if isinstance(value, DamagedText) or text != str(value):
        raise InvalidValue("a key with bytes that PostgreSQL cannot store: NUL, or not UTF-8")
    return text
