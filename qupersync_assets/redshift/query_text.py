"""Implements SYNC_QUERY_TEXT: hides what sensitive columns quote, as soon as it is read."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Literal

from qupersync_assets.core.sql_literals import HIDDEN, hide_literals, hide_values, literal_words
from qupersync_assets.rows.page import Page, Pages
from qupersync_assets.spec import Sensitive, SyncSpec

QueryText = Literal["full", "redacted", "none"]


def protect(spec: SyncSpec, pages: Pages, query_text: QueryText) -> Pages:
    """Return the pages of a job's source with protected sensitive columns, and close them.

    `full` changes nothing, `redacted` replaces literals by `?`, `none` gives NULL. Data are NULL unless `full`.
    """
    kinds: dict[str, Sensitive] = {c.name: c.info["sensitive"] for c in spec.columns if c.info["sensitive"]}
    return pages if query_text == "full" or not kinds else _protected(kinds, pages, query_text)


def _protected(kinds: Mapping[str, Sensitive], pages: Pages, query_text: QueryText) -> Pages:
    with closing(pages):
        for raw in pages:
            page = raw.decoded()
            found = {i: kinds[name] for i, name in enumerate(page.columns) if name in kinds}
            if query_text == "none":
                rows = [[None if i in found else v for i, v in enumerate(row)] for row in page.rows]
            else:
                rows = [_redacted(found, row) for row in page.rows]
            yield Page(page.columns, rows)


def _redacted(kinds: Mapping[int, Sensitive], row: Sequence[Any]) -> list[Any]:
    redacted = [_without_text(kinds.get(i), value) for i, value in enumerate(row)]
    texts = {i: row[i] for i, kind in kinds.items() if kind != "data" and isinstance(row[i], str) and row[i]}
    for i, text in texts.items():
        if kinds[i] == "sql":
            redacted[i] = hide_literals(text)
        else:
            # A message may repeat a literal without quotes, as that of RAISE EXCEPTION does.
            words = [literal_words(sql) for j, sql in texts.items() if kinds[j] == "sql"]
            redacted[i] = hide_values(text, set().union(*words))
    return redacted


def _without_text(kind: Sensitive | None, value: Any) -> Any:
    """Hide a value completely, as data and values that are not texts are."""
    if kind == "data":
        return None
    return HIDDEN if kind and value not in (None, "") else value
