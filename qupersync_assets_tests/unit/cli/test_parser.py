"""The help of each verb in a pipe: 80 characters wide, and without blanks at the ends of lines."""

from __future__ import annotations

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from qupersync_assets.cli import app

VERBS = sorted(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", [[], *([verb] for verb in VERBS), ["clusters", "rename"]], ids=" ".join)
def test_the_help_has_no_trailing_blanks(verb: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(app, [*verb, "--help"]).stdout.splitlines()
    assert any("Usage:" in line for line in lines)
    assert [line for line in lines if line != line.rstrip() or len(line) > 80] == []
