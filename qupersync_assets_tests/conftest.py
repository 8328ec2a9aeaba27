"""The sandbox that all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values

from qupersync_assets.sandbox import Sandbox

# The definitions are built from the environment when they are imported; no test connects to what stands here.
PROJECT = Path(__file__).parents[1]
PLACEHOLDERS = dotenv_values(PROJECT / ".env.example")
os.environ.update({name: value for name, value in PLACEHOLDERS.items() if value})


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run single files and tests in this process, which starts at once; run folders in several processes."""
    return 0 if all(Path(argument.partition("::")[0]).is_file() for argument in config.args) else 3


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A running sandbox with empty views; a test fills and empties them as it likes."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture(scope="session")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes a folder with the files that the commands read from where they are started."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("project")
        for name in ("workspace.yaml", "dagster.yaml"):
            shutil.copy(PROJECT / name, folder)
        return folder

    return make
