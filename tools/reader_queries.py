"""The queries for readers in deploy/sql: pages and examples, by the comment before each."""

from __future__ import annotations

import re
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "deploy" / "sql"


def reader_queries(name: str) -> dict[str, str]:
    """Return the queries of `pages` or `examples`, each ending with a semicolon, by title."""
    _, *found = re.split(r"^-- (.*)\n(?=SELECT)", (_FOLDER / f"{name}.sql").read_text("utf-8"), flags=re.MULTILINE)
    return {title: sql.strip() for title, sql in zip(found[::2], found[1::2], strict=True)}


def pages(cluster: str | None) -> dict[str, str]:
    """Return the pages of one cluster, or those of all clusters for None."""
    pattern, new = ("'default'", f"'{cluster}'") if cluster else (r"(\w+\.)?cluster = 'default'", "true")
    return {title: re.sub(pattern, new, sql) for title, sql in reader_queries("pages").items()}
