"""Errors and texts of servers on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.padding import Padding
from rich.text import Text
from typer.testing import CliRunner

from qupersync_assets.cli import app
from qupersync_assets.cli.console import out, print_line
from qupersync_assets.cli.summary import plain_table, print_summary
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.unit.conftest import Load

VERBS = (["doctor"], ["status"], ["sync"], ["history"], ["migrate"], ["purge", "--yes"], ["metrics"])


@pytest.mark.parametrize("secret", ["a", "e", "S", "error", "settings"])
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_a_short_password_hides_no_sentence(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: list[str], secret: str
) -> None:
    load(POSTGRES_PASSWORD=secret, REDSHIFT_PASSWORD=secret)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNC_INTERVAL", "soon")
    done = CliRunner().invoke(app, verb)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
    assert "SYNC_INTERVAL='soon': allowed is a whole number" in " ".join(done.output.split())
    assert "Traceback" not in done.output and "***" not in done.output


def test_control_characters_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\x1b]0;owned\x07 \x9b2J \r"
    table = plain_table(("heading",), title=text)
    table.add_row(text)
    console = out()
    console.print(table)
    print_line(console, text)
    console.print(Text(text), Padding(Text(text), 1), style="red")
    printed = capsys.readouterr().out
    assert printed.count(r"\x1b]0;owned\x07 \x9b2J \r") == 3 and printed.count(r"\x1b]0;owned") == 5
    assert not set(printed) & set("\x1b\x07\x9b\r")


def test_a_summary_of_large_counts_fits_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    counts = dict.fromkeys(
        ("rows_extracted", "rows_inserted", "rows_updated", "rows_unchanged", "rows_skipped"), 123_456
    )
    rows: list[dict[str, Any]] = [
        {
            "sync_job_id": spec.sync_job_id,
            "cluster": "c",
            "status": "success",
            "error": None,
            "check_errors": {},
            **counts,
        }
        for spec in default_specs()
    ]
    print_summary(out(), rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and not any(line.endswith(" ") for line in lines)
    assert all("123,456" in line for line in lines[2:] if "success" in line)
    assert len(lines) == 2 + len(rows)  # a job is on one line
