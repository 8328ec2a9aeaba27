"""The documents agree with the project: generated parts, links, commands and names."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from qupersync_assets.postgres.health_views import HEALTH_VIEWS
from qupersync_assets.postgres.schema import VERSION_TABLE, tables
from qupersync_assets.spec import SCHEMA
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.doc_blocks import DOCUMENTS, PROJECT, blocks
from tools import generate_docs

PACKAGE = PROJECT / "qupersync_assets"
EACH = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def test_generated_parts_are_current() -> None:
    pages = generate_docs.pages()
    assert {path.name for path in pages} >= {"settings.md", "tables.md", "README.md", "redshift.md"}
    old = [path.name for path, text in pages.items() if path.read_text("utf-8") != text]
    assert not old, "run `make docs`"


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EACH
def test_links_have_a_target(document: Path) -> None:
    text = document.read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for link in links:
        if not re.match(r"https?://", link):
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_every_document_is_linked_from_the_readme_or_another() -> None:
    linked = {
        (document.parent / link.partition("#")[0]).resolve()
        for document in DOCUMENTS
        for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8"))
        if not link.startswith("http")
    }
    assert set(DOCUMENTS) - linked <= {PROJECT / "README.md"}


@EACH
def test_make_targets_exist(document: Path) -> None:
    targets = re.findall(r"^([a-z.][a-z0-9./-]*):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE)
    shown = re.findall(r"`make ([a-z0-9./-]+)(?=[ `])", document.read_text("utf-8"))
    assert set(shown) <= set(targets)


@cache
def relations() -> set[str]:
    """Return the names of all tables and views of the schema."""
    views = [view.name for views in (*(spec.all_views for spec in all_specs()), HEALTH_VIEWS) for view in views]
    return {VERSION_TABLE, *(table.name for table in tables(all_specs())), *views}


@EACH
def test_tables_and_columns_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    for block in blocks(document):  # they are executed
        text = text.replace(block.text, "")
    created = {"sessions", "sessions_current"} if document.name == "ninth-job.md" else set()
    columns = {table.name: set(table.c.keys()) for table in tables(all_specs())}
    for table, column in re.findall(rf"\b{SCHEMA}\.([a-z_]+)(?:\.([a-z_]+))?\b", text):
        assert table in relations() | created, f"{SCHEMA}.{table}"
        assert not column or column in columns[table], f"{SCHEMA}.{table}.{column}"


def names(document: Path) -> set[str]:
    """Return the words in backticks, and in the labels of pictures."""
    text = document.read_text("utf-8")
    pictures = "\n".join(block.text for block in blocks(document) if block.tag == "mermaid")
    labels = re.findall(r'"([^"]+)"', pictures)
    words = {word for label in labels for word in re.findall(r"[\w./*]+", label.replace("<br/>", " "))}
    return set(re.findall(r"`([^`\n]+)`", text)) | {w for w in words if re.search(r"[/.]|[a-z][A-Z]", w)}


@cache
def identifiers() -> set[str]:
    """Return the names that the package defines."""
    code = "\n".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    found = re.findall(r"(?:class|def) (\w+)|^ *(\w+)(?=: | = )", code, re.MULTILINE)
    return {name for pair in found for name in pair}


def exists(name: str) -> bool:
    """Return whether a name is a path, a table, or something that the package defines."""
    if re.fullmatch(r"make [a-z-]+", name):
        return True  # see test_make_targets_exist
    if name.startswith(f"{SCHEMA}."):
        return True  # see test_tables_and_columns_exist
    if "/" in name or re.search(r"\.(py|json|md|toml|yaml|sql)$", name):
        below_defs = [folder for folder in PACKAGE.iterdir() if folder.is_dir()]
        return any((base / name).exists() for base in (PROJECT, PACKAGE, *below_defs))
    return all(part in identifiers() for part in re.sub(r"\(.*\)$", "", name).split("."))


def test_the_architecture_names_only_what_exists() -> None:
    found = names(PROJECT / "docs" / "architecture.md")
    assert len(found) > 50
    assert not sorted(name for name in found if not exists(name))


def test_paths_in_other_documents_exist() -> None:
    """Files of the package and of the tests; commands and settings are checked by other tests."""
    for document in DOCUMENTS:
        if document.name == "CHANGELOG.md":  # names what was removed
            continue
        created = {block.file for block in blocks(document)}
        for name in names(document) - created:
            if re.fullmatch(r"[\w/]+\.py|(?:qupersync_assets|deploy|docs|tools)[\w/-]*(\.\w+)?", name):
                assert exists(name) or name == "deploy/.env", f"{document.name}: {name}"


def test_pre_commit_runs_linters_of_make_lint() -> None:
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    [repository] = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        command = hook["entry"].replace(".venv/bin/", "$(BIN)/").removesuffix(" --force-exclude")
        assert command in makefile
