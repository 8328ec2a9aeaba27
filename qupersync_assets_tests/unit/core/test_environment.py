"""The file .env: the environment wins, values stay as they are, and another encoding is explained."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qupersync_assets.cli import app
from qupersync_assets.core.environment import (
    EnvFileError,
    current_secret,
    current_value,
    exposed_env_file,
    load_env_file,
    read_secrets,
)
from qupersync_assets.core.redaction import redact
from qupersync_assets.settings import Settings, SettingsError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose variables X_* disappear after the test."""
    for name in ("X_ONE", "X_TWO", "X_THREE"):
        monkeypatch.setenv(name, "")
    return tmp_path / "some.env"


def test_the_environment_wins_unless_it_is_empty(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_ONE", "own")
    monkeypatch.delenv("X_TWO")
    file.write_text("X_ONE=1\nX_TWO=2\nX_THREE=3\n")
    load_env_file(file)
    assert [os.environ[name] for name in ("X_ONE", "X_TWO", "X_THREE")] == ["own", "2", "3"]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("'pa${ss}word'", "pa${ss}word"),
        ('"pa${HOME}$x"', "pa${HOME}$x"),
        ("pa$$word", "pa$$word"),
        (r"'it\'s \\ \n'", r"it's \ \n"),
        ("'a # b'", "a # b"),
        ("'\"quoted\"'", '"quoted"'),
        ("pâss漢 # a comment", "pâss漢"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_values_are_kept(file: Path, line: str, value: str, encoding: str) -> None:
    file.write_text(f"X_ONE={line}\n", encoding)
    load_env_file(file)
    assert os.environ["X_ONE"] == value


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
def test_another_encoding_is_explained(file: Path, encoding: str) -> None:
    file.write_text("X_ONE='hunter2é'\n", encoding)
    with pytest.raises(EnvFileError, match=r"some\.env is not in UTF-8") as refusal:
        load_env_file(file)
    assert "hunter" not in str(refusal.value) and os.environ["X_ONE"] == ""


def test_a_folder_is_explained_and_a_missing_file_is_none(tmp_path: Path) -> None:
    load_env_file(tmp_path / "missing")
    with pytest.raises(EnvFileError, match="cannot be read: Is a directory"):
        load_env_file(tmp_path)


def test_the_command_line_shows_one_sentence(file: Path) -> None:
    file.write_text("X_ONE=é\n", "latin-1")
    done = CliRunner().invoke(app, ["--env-file", str(file), "status"])
    assert (done.exit_code, done.stderr) == (1, f"{file} is not in UTF-8: save it again in this encoding.\n")


@pytest.mark.parametrize(
    ("mode", "shown"),
    [(0o600, None), (0o400, None), (0o644, "-rw-r--r--"), (0o640, "-rw-r-----"), (0o606, "-rw----rw-")],
)
def test_a_file_that_others_may_read_is_reported(tmp_path: Path, mode: int, shown: str | None) -> None:
    file = tmp_path / "my file.env"
    file.write_text("A_VARIABLE_OF_THE_TEST=")
    file.chmod(mode)
    load_env_file(file)
    assert exposed_env_file() == (file, shown)
    file.unlink()
    load_env_file(file)
    assert exposed_env_file() == (None, None)


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of REDSHIFT_OTHER_PASSWORD_FILE; what the product sets disappears after the test."""
    for name in ("REDSHIFT_OTHER_PASSWORD", "QUPERSYNC_SECRET_FILES"):
        monkeypatch.setenv(name, "")
    path = tmp_path / "secret"
    monkeypatch.setenv("REDSHIFT_OTHER_PASSWORD_FILE", str(path))
    return path


def test_a_secret_in_a_file_is_read_again(secret: Path) -> None:
    secret.write_text("hunter2-first\n")
    assert read_secrets() == {} and os.environ["REDSHIFT_OTHER_PASSWORD"] == "hunter2-first"
    secret.write_text("hunter2-second\n")
    assert current_secret("REDSHIFT_OTHER_PASSWORD") == "hunter2-second" and redact("hunter2-second") == "***"
    secret.unlink()
    assert current_value("REDSHIFT_OTHER_PASSWORD") == "hunter2-first"


def test_a_secret_in_a_file_that_cannot_be_used_is_explained(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "REDSHIFT_OTHER_PASSWORD_FILE"
    assert "cannot be read: No such file" in read_secrets()[variable]
    secret.write_text("\n")
    assert "is empty" in read_secrets()[variable]
    monkeypatch.setenv("REDSHIFT_OTHER_PASSWORD", "hunter2")
    with pytest.raises(SettingsError, match=f"{variable}: allowed is this or REDSHIFT_OTHER_PASSWORD, not both"):
        Settings.load()
