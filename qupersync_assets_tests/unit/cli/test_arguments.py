"""Durations and times as arguments, and durations as output."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from qupersync_assets.cli.arguments import parse_duration, parse_time
from qupersync_assets.core.durations import format_duration


@given(st.lists(st.tuples(st.integers(0, 9999), st.sampled_from("smhdw")), min_size=1, max_size=5))
def test_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
    written = "".join(f"{count}{unit}" for count, unit in parts)
    assert parse_duration(f" {written.upper()} ").total_seconds() == sum(n * seconds[unit] for n, unit in parts)


@given(st.text(max_size=12))
def test_duration_refuses_other_texts(text: str) -> None:
    try:
        assert parse_duration(text) >= timedelta()
    except typer.BadParameter as refusal:
        assert repr(text) in str(refusal)


@given(st.datetimes(), st.sampled_from(["", "Z", "+05:30"]))
def test_time_without_a_zone_is_utc(time: datetime, zone: str) -> None:
    offset = timedelta(hours=5.5) if zone.startswith("+") else timedelta()
    assert parse_time(time.isoformat() + zone).replace(tzinfo=None) - offset == time - offset
    assert parse_time(time.isoformat() + zone).utcoffset() == offset


def test_time_may_be_a_duration_before_now() -> None:
    assert abs(datetime.now(UTC) - timedelta(hours=2) - parse_time("2h")) < timedelta(seconds=10)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"), (-3, "0 ms"), (0.0316, "32 ms"), (3.21, "3.2 s"), (59.99, "59 s"), (60, "1m"), (310, "5m 10s"),
        (3600, "1h"), (3605, "1h"), (7500, "2h 5m"), (273600, "3d 4h"), (86400 * 400, "400d"),
    ],
)  # fmt: skip
def test_format_duration_has_two_units(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text
