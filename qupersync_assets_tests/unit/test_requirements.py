"""deploy/requirements: every package is pinned with hashes, in the tested version, and no dependency is left out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "deploy" / "requirements"
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
# The extras in each file, of those that `pip install` gets without hashes.
EXTRAS = {
    "demo": ("report", "sandbox"),
    "image": ("alerts", "celery", "k8s"),
    "dev": ("alerts", "celery", "k8s", "mcp", "report", "sandbox", "dev"),
}


def normal(name: str) -> str:
    """https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> dict[str, str]:
    return {normal(n): v for n, v in re.findall(r"^([\w.-]+)==([^\s;\\]+)", path.read_text("utf-8"), re.MULTILINE)}


@pytest.mark.parametrize("file", ["demo", "image", "dev", "e2e", "docs", "audit"])
def test_every_package_has_a_version_and_hashes(file: str) -> None:
    text = (FOLDER / f"{file}.txt").read_text("utf-8")
    entries = re.findall(r"^(?=\S)(?:.*\\\n)*.*$", text, re.MULTILINE)
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[\w.-]+==[\w.!+]+( ; [^\\]+)? \\\n( +--hash=sha256:[0-9a-f]{64}( \\\n|$))+\Z", entry), entry[
            :200
        ]


def test_versions_are_those_that_were_tested_together() -> None:
    tested = pinned(PROJECT / "deploy" / "constraints.txt")
    assert len(tested) > 150
    for file in ("demo", "image", "dev", "e2e"):
        found = pinned(FOLDER / f"{file}.txt")
        other = {name: version for name, version in found.items() if tested.get(name, version) != version}
        assert not other, "run `make lock`"


@pytest.mark.parametrize("file", EXTRAS)
def test_every_dependency_is_in_the_file(file: str) -> None:
    groups = [PYPROJECT["dependencies"], *(PYPROJECT["optional-dependencies"][extra] for extra in EXTRAS[file])]
    names = {normal(re.split(r"[^\w.-]", line)[0]) for group in groups for line in group}
    assert names - {"qupersync"} <= pinned(FOLDER / f"{file}.txt").keys(), "run `make lock`"
