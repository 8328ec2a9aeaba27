"""SYNC_QUERY_TEXT applied to pages: it affects columns that the spec flags."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import sqlalchemy as sa

from qupersync_assets.redshift.query_text import QueryText, protect
from qupersync_assets.rows.coercion import transform
from qupersync_assets.rows.page import Page
from qupersync_assets.spec import SyncSpec, column

SPEC = SyncSpec(
    sync_job_id="x_sync",
    table=sa.Table(
        "x",
        sa.MetaData(),
        column("number", sa.BigInteger(), "a number"),
        column("plain", sa.Text(), "not flagged"),
        column("body", sa.Text(), "text of SQL", sensitive="sql"),
        column("message", sa.Text(), "about it", sensitive="message"),
        column("line", sa.Text(), "data", sensitive="data"),
    ),
    kind="snapshot",
    description="A job.",
    sources=("v",),
    from_clause="FROM v",
)
ROWS = [
    (1, "it is 'a1'", "f('Ann', 2)", 'no Ann in "b"', "1|Ann"),
    (None, None, None, None, None),
    ("one", "", "", "no 'b'", ""),
    (3, "c", b"'d'", 4, 5),
]
LABELS = ("number", "plain", "body", "message", "line")
SHOWN: dict[QueryText, list[tuple[Any, ...]]] = {
    "redacted": [("f(?, ?)", "no ? in ?", None), (None, None, None), ("", "no ?", None), ("?", "?", None)],
    "none": [(None, None, None)] * 4,
}


def pages(closed: list[bool] | None = None) -> Generator[Any, None, None]:
    try:
        yield Page(LABELS, ROWS)
        yield Page(LABELS[::-1], [row[::-1] for row in ROWS])
    finally:
        if closed is not None:
            closed.append(True)


@pytest.mark.parametrize("query_text", SHOWN)
def test_flagged_columns_are_hidden_in_any_order(query_text: QueryText) -> None:
    expected = [(*row[:2], *shown) for row, shown in zip(ROWS, SHOWN[query_text], strict=True)]
    first, second = protect(SPEC, pages(), query_text)
    assert (first.columns, second.columns) == (LABELS, LABELS[::-1])
    assert [tuple(row) for row in first.rows] == expected
    assert [tuple(row)[::-1] for row in second.rows] == expected


@pytest.mark.parametrize("query_text", SHOWN)
def test_a_skipped_row_has_no_literals(query_text: QueryText) -> None:
    page: Any = next(protect(SPEC, pages(), query_text))
    _, skipped = transform(SPEC, page)
    (hidden,) = [(bad.row["body"], bad.row["message"], bad.row["line"]) for bad in skipped]
    assert hidden == SHOWN[query_text][2]


def test_full_text_passes_the_pages_through() -> None:
    read = pages()
    assert protect(SPEC, read, "full") is read


def test_closing_the_pages_closes_the_source() -> None:
    closed: list[bool] = []
    protected: Any = protect(SPEC, pages(closed), "redacted")
    next(protected)
    protected.close()
    assert closed
