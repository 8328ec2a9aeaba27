"""`qupersync init` without a terminal: from options and the environment, tested against real databases elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dotenv import dotenv_values
from typer.testing import CliRunner, Result

from qupersync_assets.cli import app

PASSWORD = "a'b \\ $HOME #c"
GIVEN = ["REDSHIFT_HOST=localhost", "REDSHIFT_DATABASE=dev", "REDSHIFT_USER=reader", "POSTGRES_HOST=localhost"]
GIVEN += ["POSTGRES_DATABASE=quper", "POSTGRES_USER=writer"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith(("REDSHIFT_", "POSTGRES_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REDSHIFT_PASSWORD", PASSWORD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["init", *arguments])


def test_file_has_the_settings_and_is_private(folder: Path) -> None:
    done = init("--no-test", *GIVEN, "SYNC_INTERVAL=600")
    assert done.exit_code == 0 and PASSWORD not in done.output
    file = folder / ".env"
    assert file.stat().st_mode & 0o777 == 0o600
    written = dotenv_values(file, interpolate=False)
    assert written["REDSHIFT_PASSWORD"] == PASSWORD and written["SYNC_INTERVAL"] == "600"
    again = init("--no-test", *GIVEN)
    assert again.exit_code == 1 and "--force" in again.stderr
    assert init("--no-test", "--force", *GIVEN).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (GIVEN[:-1], "cannot ask for POSTGRES_USER"),
        ([*GIVEN, "POSTGRES_PASSWORD=x"], "POSTGRES_PASSWORD is a secret"),
        ([*GIVEN, "POSTGRES_HOTS=x"], "Did you mean POSTGRES_HOST?"),
        ([*GIVEN, "--login", "magic"], "password, iam, serverless, secret"),
        ([*GIVEN, "nothing"], "NAME=VALUE"),
    ],
)
def test_wrong_use_is_one_sentence(folder: Path, arguments: list[str], words: str) -> None:
    done = init(*arguments)
    assert done.exit_code == 2 and words in done.stderr and not (folder / ".env").exists()


def test_login_that_fails_writes_nothing(folder: Path) -> None:
    done = init(*GIVEN, "REDSHIFT_PORT=1", "POSTGRES_PORT=1")
    assert done.exit_code == 1 and not (folder / ".env").exists()
    assert "REDSHIFT_HOST" in done.stderr and "PostgreSQL" in done.stderr and PASSWORD not in done.output
