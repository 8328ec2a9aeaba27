"""Finds the documents of the project and their blocks of code."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("**/*.md")])

_FENCE = re.compile(r"^(\s*)```(.*)$")
_FILE = re.compile(r"`([\w./]+\.py)`:$")


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        tag: what follows the opening fence.
        text: the lines between the fences.
        line: number of its first line in the document.
        file: the Python file that it is written to, or changes; the sentence before the block ends with its name.
    """

    tag: str
    text: str
    line: int
    file: str | None


def blocks(document: Path) -> list[Block]:
    """Return the blocks of a document in their order."""
    found: list[Block] = []
    opened: tuple[str, int, str] | None = None
    lines = document.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not (fence := _FENCE.match(line)):
            continue
        if opened is None:
            before = next((text for text in reversed(lines[: number - 1]) if text), "")
            opened = (fence[2].strip(), number + 1, before)
        else:
            tag, first, before = opened
            text = textwrap.dedent("\n".join(lines[first - 1 : number - 1])) + "\n"
            named = _FILE.search(before)
            found.append(Block(tag, text, first, named[1] if named else None))
            opened = None
    assert opened is None, f"{document.name}: a block is not closed"
    return found


def commands(text: str) -> list[str]:
    """Return the commands of a shell block, one per line, without comments."""
    joined = text.replace("\\\n", " ")
    return [line for raw in joined.splitlines() if (line := re.sub(r"(^|\s+)#.*", "", raw).strip())]
