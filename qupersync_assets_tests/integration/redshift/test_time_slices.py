"""Slices of a result have each row once, in the order of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from qupersync_assets.redshift.time_slices import TimeSlices
from qupersync_assets_tests.support.integration import Query

START = datetime(2026, 3, 1, tzinfo=UTC)
WHOLE = TimeSlices("at", START, START + timedelta(minutes=8))
# Two rows a minute, each full minute being the end of a slice; from before the start until after the end; and no time.
ROWS = f"""
SELECT n, '{START:%Y-%m-%d}'::timestamp + n * interval '30 seconds' AS at FROM generate_series(20, -4, -1) n
UNION ALL SELECT 99, NULL::timestamp"""


def leaves(slices: TimeSlices) -> list[TimeSlices]:
    return [leaf for half in slices.halves for leaf in leaves(half)] or [slices]


def test_each_row_is_in_one_slice(target: Query) -> None:
    found = [target(leaf.statement(ROWS)) for leaf in leaves(WHOLE)]
    assert len(found) == 8 and all(found)
    rows = [number for rows in found for number, _ in rows]
    assert sorted(rows) == [*range(-4, 21), 99]
    timed = [at for rows in found for _, at in rows if at]
    assert timed == sorted(timed)


def test_the_whole_is_the_statement_itself() -> None:
    assert WHOLE.statement(ROWS) == ROWS
