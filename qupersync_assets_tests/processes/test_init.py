"""`qupersync init` in a terminal: it asks, asks again what is wrong, shows no password, and writes a private file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

from qupersync_assets.sandbox import Sandbox
from qupersync_assets_tests.support.terminal import Terminal

WRONG, CTRL_C = "not-the-password", "\x03"


@pytest.fixture
def values(sandbox: Sandbox) -> dict[str, str]:
    return sandbox.environment()


def open_init(values: dict[str, str], folder: Path, *arguments: str) -> Terminal:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REDSHIFT_", "POSTGRES_"))}
    given = [f"{name}={values[name]}" for name in ("REDSHIFT_PORT", "POSTGRES_PORT", "REDSHIFT_SSL")]
    return Terminal([sys.executable, "-m", "qupersync_assets.cli", "init", *given, *arguments], kept, folder)


def test_wrong_answers_are_asked_again_and_the_others_kept(values: dict[str, str], tmp_path: Path) -> None:
    asked = [f"{side}_{part}" for side in ("REDSHIFT", "POSTGRES") for part in ("HOST", "DATABASE", "USER", "PASSWORD")]
    file = tmp_path / ".env"
    with open_init(values, tmp_path) as terminal:
        terminal.answer("Login to Redshift (password, iam, serverless, secret) [password]:", "magic")
        terminal.answer("[password]:", "")
        terminal.answer("REDSHIFT_HOST:", "")  # has no default
        first = values | {"REDSHIFT_HOST": "https://cluster/", "REDSHIFT_PASSWORD": WRONG}
        for name in asked:
            terminal.answer(":", first[name])
        terminal.answer("REDSHIFT_HOST [https://cluster/]:", values["REDSHIFT_HOST"])
        assert "REDSHIFT_HOST: allowed is the name of a host" in terminal.screen and not file.exists()
        for _ in asked[1:]:
            terminal.answer(":", "")
        terminal.answer(f"REDSHIFT_HOST [{values['REDSHIFT_HOST']}]:", "")
        assert "password authentication failed" in terminal.screen and not file.exists()
        terminal.answer(f"REDSHIFT_DATABASE [{values['REDSHIFT_DATABASE']}]:", "")
        terminal.answer("REDSHIFT_USER [qupersync_reader]:", "")
        terminal.answer("REDSHIFT_PASSWORD:", values["REDSHIFT_PASSWORD"])
        for _ in asked[4:]:
            terminal.answer(":", "")
        assert terminal.wait() == 0, terminal.screen
    assert "Wrote .env." in terminal.screen and "Traceback" not in terminal.screen
    for password in (WRONG, values["REDSHIFT_PASSWORD"], values["POSTGRES_PASSWORD"]):
        assert password not in terminal.screen
    assert file.stat().st_mode & 0o777 == 0o600
    written = dotenv_values(file, interpolate=False)
    assert {name: written[name] for name in asked} == {name: values[name] for name in asked}
    assert written["REDSHIFT_PORT"] == values["REDSHIFT_PORT"]


def test_ctrl_c_writes_nothing(values: dict[str, str], tmp_path: Path) -> None:
    with open_init(values, tmp_path, "--login", "secret") as terminal:
        terminal.answer("REDSHIFT_SECRET_ARN:", "arn:aws:secretsmanager:eu-central-1:1:secret:x")
        terminal.answer("POSTGRES_HOST [localhost]:", "", key=CTRL_C)
        assert terminal.wait() == 1
    assert "Aborted" in terminal.screen and "ACCOUNT:secret:NAME" in terminal.screen and not list(tmp_path.iterdir())
