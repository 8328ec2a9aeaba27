"""Valid values of a column, with the coerced values, and invalid values, by the type of the column."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st

from qupersync_assets.rows.page import DamagedText

EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
NAN, INFINITY = float("nan"), float("inf")

_SECOND = timedelta(seconds=1)
_TIMES: list[tuple[Any, datetime]] = [
    (datetime(2026, 3, 8, 2, 30, 0, 123456), datetime(2026, 3, 8, 2, 30, 0, 123456, UTC)),
    (datetime.min + _SECOND, datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC)),
    (datetime.max - _SECOND, datetime(9999, 12, 31, 23, 59, 58, 999999, UTC)),
    (datetime(2026, 1, 1, 14, tzinfo=EAST), datetime(2026, 1, 1, tzinfo=UTC)),
    (datetime(9999, 12, 31, 11, 59, 59, tzinfo=WEST), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    (datetime(1, 1, 1, 14, 0, 1, tzinfo=EAST), datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC)),
    (date(2026, 2, 28), datetime(2026, 2, 28, tzinfo=UTC)),
    ("2026-02-28 13:14:15.5", datetime(2026, 2, 28, 13, 14, 15, 500000, UTC)),
]
_TEXTS = [
    *("", " ", "plain", "trailing  ", "\ttab", "two\nlines\r\n", "back\\slash \\N", "'quote\"", "NULL"),
    *("🦆 four bytes", "שלום rtl \u202e", "e\u0301 decomposed", "\ufeffbom", "\x01\x7f\x85\u2028", "x" * 70_000),
]


def _bits(type_: sa.types.TypeEngine[Any]) -> int:
    return 64 if isinstance(type_, sa.BigInteger) else 32


def _digits(type_: sa.Numeric[Any]) -> tuple[int, int]:
    assert type_.precision is not None and type_.scale is not None
    return type_.precision, type_.scale


def good_values(type_: sa.types.TypeEngine[Any], is_key: bool = False) -> list[tuple[Any, Any]]:
    """Return (value as read, value to load) at the limits of a type; a key has no bytes that cannot be stored."""
    match type_:
        case sa.Integer():
            largest = (1 << (_bits(type_) - 1)) - 1
            whole = [0, 7, -7, largest, -largest, -largest - 1]
            if _bits(type_) == 64:
                whole += [(1 << 53) + 1, -(1 << 53) - 1]
            forms = [(form(n), n) for n in whole for form in (int, Decimal, str)]
            return [*forms, (Decimal("7.000"), 7), (" 7 ", 7), (7.0, 7), (Decimal("1E+3"), 1000)]
        case sa.Double():
            return [(v, v) for v in (0.0, -1.5, 1e300, 5e-324)] + [("1.5", 1.5), (7, 7.0)]
        case sa.Numeric():
            precision, scale = _digits(type_)
            nines = Decimal(f"{'9' * precision}E-{scale}")
            # Negated by copy_negate: the minus sign would round to 28 digits.
            exact = [nines, nines.copy_negate(), Decimal(0), Decimal(f"1E-{scale}")]
            return [(form(n), n) for n in exact for form in (Decimal, str)] + [(7, Decimal(7))]
        case sa.Boolean():
            return [(True, True), (False, False), ("t", True), ("f", False)]
        case sa.DateTime():
            return list(_TIMES)
        case sa.Text():
            cleaned = [("\0", ""), ("a\0b\0", "ab"), ("\0🦆", "🦆"), (DamagedText("a\ufffd"), "a\ufffd")]
            return [(t, t) for t in _TEXTS] + [("\ufffd", "\ufffd")] + ([] if is_key else cleaned)
    raise AssertionError(f"no values for {type_!r}")


def bad_values(type_: sa.types.TypeEngine[Any], is_key: bool = False) -> list[tuple[Any, str]]:
    """Return (value as read, a word of the reason) of invalid values of a type."""
    no_number = [
        *((NAN, "finite"), (INFINITY, "finite"), (-INFINITY, "finite"), (Decimal("NaN"), "finite")),
        *((Decimal("sNaN"), "finite"), (Decimal("-Infinity"), "finite"), ("NaN", "finite")),
        *(("seven", "not a"), ("", "not a"), ("0x10", "not a"), (datetime(2026, 1, 1), "not a")),
    ]
    match type_:
        case sa.Integer():
            beyond = 1 << (_bits(type_) - 1)
            fractions = [(0.5, "integer"), (Decimal("7.1"), "integer"), ("7.5", "integer")]
            forms = [(form(n), "range") for n in (beyond, -beyond - 1) for form in (int, Decimal, str)]
            return [*no_number, *fractions, *forms, (1e300, "range")]
        case sa.Double():
            return [*no_number, (Decimal("1E+400"), "range"), (True, "not a")]
        case sa.Numeric():
            precision, scale = _digits(type_)
            power = Decimal(f"1E+{precision - scale}")
            return [*no_number, (power, "range"), (-power, "range"), (str(power), "range"), (1e300, "range")]
        case sa.Boolean():
            return [("maybe", "boolean"), ("", "boolean"), (2, "boolean")]
        case sa.DateTime():
            return [
                *((datetime.min, "years"), (datetime.max, "years"), (date.min, "years")),
                (datetime(1, 1, 1, 13, 59, tzinfo=EAST), "years"),
                (datetime(9999, 12, 31, 12, tzinfo=WEST), "years"),
                *(("infinity", "timestamp"), ("yesterday", "timestamp"), ("2026-02-30", "timestamp")),
                *((20260101, "timestamp"), (NAN, "timestamp"), ("", "timestamp")),
            ]
        case sa.Text():
            surrogates = [("\ud800", "surrogate"), ("before\udfffafter", "surrogate"), ("\0\udc80", "surrogate")]
            unstorable = [("\0", "NUL"), ("a\0b", "NUL"), (DamagedText("a\ufffd"), "UTF-8")]
            return surrogates + (unstorable if is_key else [])
    raise AssertionError(f"no values for {type_!r}")


def good(column: sa.Column[Any], is_key: bool = False) -> st.SearchStrategy[tuple[Any, Any]]:
    """Return a strategy for valid values, as (value as read, value to load)."""
    type_ = column.type
    edges = st.sampled_from(good_values(type_, is_key))
    any_: st.SearchStrategy[tuple[Any, Any]]
    match type_:
        case sa.Integer():
            half = 1 << (_bits(type_) - 1)
            any_ = st.integers(-half, half - 1).flatmap(
                lambda n: st.sampled_from([n, Decimal(n), str(n)]).map(lambda value: (value, n))
            )
        case sa.Double():
            any_ = st.floats(allow_nan=False, allow_infinity=False).map(lambda f: (f, f))
        case sa.Numeric():
            precision, scale = _digits(type_)
            digits = 10**precision - 1
            any_ = (
                st.integers(-digits, digits)
                .map(lambda n: Decimal(f"{n}E-{scale}"))
                .flatmap(lambda n: st.sampled_from([n, str(n)]).map(lambda value: (value, n)))
            )
        case sa.DateTime():
            any_ = st.datetimes(datetime.min + _SECOND, datetime.max - _SECOND).map(
                lambda t: (t, t.replace(tzinfo=UTC))
            )
        case sa.Text():
            characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0" if is_key else "")
            any_ = st.text(characters).map(lambda t: (t, t.replace("\0", "")))
        case _:
            any_ = edges
    null = [st.just((None, None))] if column.nullable else []
    return st.one_of(any_, edges, *null)


def bad(column: sa.Column[Any], is_key: bool = False) -> st.SearchStrategy[tuple[Any, str]]:
    """Return a strategy for invalid values, as (value as read, a word of the reason)."""
    null = [] if column.nullable else [(None, "NULL")]
    return st.sampled_from([*bad_values(column.type, is_key), *null])
