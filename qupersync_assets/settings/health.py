"""Thresholds of the signals of a cluster's health; the signals themselves are not known here."""

from __future__ import annotations

import math


def parse_thresholds(text: str) -> dict[str, float | None]:
    """Return the thresholds by signal, None for `off`, or raise a ValueError."""
    found: dict[str, float | None] = {}
    for entry in (part.strip() for part in text.split(",") if part.strip()):
        name, separator, value = (part.strip() for part in entry.partition("="))
        try:
            number = None if value.lower() == "off" else float(value)
        except ValueError:
            number = math.nan
        if not separator or (number is not None and not math.isfinite(number)):
            raise ValueError(f"allowed is SIGNAL=NUMBER or SIGNAL=off, unlike in {entry!r}")
        if name in found:
            raise ValueError(f"{name!r} is named twice")
        found[name] = number
    return found


def check_thresholds(text: str) -> str:
    """Return the value of HEALTH_THRESHOLDS if its entries have the right form; else raise a ValueError."""
    parse_thresholds(text)
    return text
