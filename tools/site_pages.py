"""Copies the documents, and the files that they link to, to build/pages, from which `make site` builds web pages."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PAGES = PROJECT / "build" / "pages"
_LINK = re.compile(r"""(?:\]\(|(?:src|href)=")(?!\w+:)([^)#"\s]+)""")
# The second word of a fence, as in `sql example`, is for the tests; mkdocs knows one.
_SECOND_WORD = re.compile(r"^( *```\w+) \w+$", re.MULTILINE)


def documents() -> list[Path]:
    """Return the documents for readers of the project."""
    return sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("**/*.md")])


def main() -> None:
    """Replace the folder of the pages."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for document in documents():
        text = document.read_text("utf-8")
        for link in _LINK.findall(text):
            target = (document.parent / link).resolve()
            if target.is_file() and target.suffix != ".md":
                _copy(target)
            elif target.is_dir():  # pages have no folders: the text stays, without a link
                text = re.sub(rf"\[([^]]*)\]\({re.escape(link)}\)", r"\1", text)
        text = _SECOND_WORD.sub(r"\1", text)
        _place(document).write_text(text, "utf-8")


def _place(source: Path) -> Path:
    place = PAGES / source.relative_to(PROJECT)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _copy(source: Path) -> None:
    shutil.copyfile(source, _place(source))


if __name__ == "__main__":
    main()
