"""A folder to run the commands in, as a user's clone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes a folder with the files that the commands read from where they are started."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("project")
        for name in ("workspace.yaml", "dagster.yaml"):
            shutil.copy(PROJECT / name, folder)
        return folder

    return make


@pytest.fixture
def project(new_project: Callable[[], Path]) -> Path:
    """A folder of a test's own."""
    return new_project()
