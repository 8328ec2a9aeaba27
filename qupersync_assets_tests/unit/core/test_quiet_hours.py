"""Quiet hours over midnight, several ranges, and their ends."""

from __future__ import annotations

from datetime import datetime

import pytest

from qupersync_assets.core.quiet_hours import check_quiet_hours, last_quiet, quiet_until


def at(time: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-26T{time}")


@pytest.mark.parametrize(
    ("time", "until"),
    [
        ("19:59:59", None),
        ("20:00:00", "2026-11-27T06:00:00"),
        ("23:59:59", "2026-11-27T06:00:00"),
        ("05:59:59", "2026-11-26T06:00:00"),
        ("06:00:00", None),
    ],
)
def test_hours_may_be_over_midnight(time: str, until: str | None) -> None:
    assert quiet_until("20:00-06:00", at(time)) == (datetime.fromisoformat(until) if until else None)


def test_there_may_be_several_and_none() -> None:
    text = check_quiet_hours("00:00-06:00, 22:00-24:00")
    assert quiet_until(text, at("23:00:00")) == datetime.fromisoformat("2026-11-27T00:00:00")
    assert quiet_until(text, at("12:00:00")) is None and quiet_until(None, at("12:00:00")) is None


def test_the_last_quiet_time_is_now_or_the_end_of_the_hours() -> None:
    assert last_quiet("20:00-06:00", at("07:30:30")) == at("06:00:00")
    assert last_quiet("20:00-06:00", at("03:00:00")) == at("03:00:00")
    assert last_quiet("20:00-06:00", at("06:00:00")) == at("06:00:00")
    assert last_quiet("00:00-06:00,22:00-24:00", at("19:00:00")) == at("06:00:00")
    assert last_quiet(None, at("03:00:00")) is None


@pytest.mark.parametrize(
    "text", ["22-6", "22:00", "25:00-06:00", "22:00-24:01", "06:00-06:00", "22:00-06:00;1:00-2:00"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="20:00-06:00"):
        check_quiet_hours(text)
