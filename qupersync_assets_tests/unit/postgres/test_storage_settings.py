"""Dagster's commands show a sentence, without a traceback, if the settings of their storage are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import sqlalchemy as sa

from qupersync_assets.core import environment
from qupersync_assets.postgres.connection import URL
from qupersync_assets.settings import SettingsError
from qupersync_assets_tests.conftest import PROJECT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, without settings."""
    for name in [name for name in os.environ if name.startswith(("POSTGRES_", "REDSHIFT_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(environment, "_loaded", [])  # the file of another test
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("has_file", [False, True])
def test_the_error_says_what_is_missing_and_what_to_type(folder: Path, has_file: bool) -> None:
    if has_file:
        (folder / ".env").write_text("POSTGRES_HOST=\n")
    with pytest.raises(click.ClickException) as raised:
        sa.create_engine(URL)
    text = raised.value.format_message()
    assert isinstance(raised.value, SettingsError) and "POSTGRES_HOST is not set." in text
    assert str(folder / ".env") in text and ("`qupersync init` writes it" in text) is not has_file


def test_a_command_of_dagster_ends_with_it(folder: Path) -> None:
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copyfile(PROJECT / name, folder / name)
    command = [str(Path(sys.executable).with_name("dagster")), "definitions", "validate"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    error = done.stderr.partition("Error: ")[2].splitlines()
    assert len(error) == 5 and error[-1].startswith("There is no file")
