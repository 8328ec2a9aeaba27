"""The documentation says what is so: what is generated is current, links lead somewhere, commands are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parents[2]
DOCUMENTS = sorted([PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")])
EACH = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """tools/generate_docs.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("generate", PROJECT / "tools" / "generate_docs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_generated_is_current(generate: ModuleType) -> None:
    pages = generate.pages()
    assert {path.name for path in pages} >= {".env.example", "settings.md", "tables.md", "README.md"}
    old = [path.name for path, text in pages.items() if path.read_text("utf-8") != text]
    assert not old, "run `make docs`"


def anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EACH
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for link in links:
        if not re.match(r"https?://", link):
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@EACH
def test_commands_exist(document: Path) -> None:
    targets = re.findall(r"^([a-z][a-z-]*):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z-]+)\b(?=[`\s,;])", code(document))) <= set(targets)


def code(document: Path) -> str:
    """What stands in backticks and in blocks of code."""
    text = document.read_text("utf-8")
    return (
        "\n".join(
            re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
            + re.findall(r"`(make [^`]*)`", text)
        )
        + "\n"
    )
