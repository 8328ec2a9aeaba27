"""`qupersync init` with the databases of the sandbox: it logs in to both before it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from dotenv import dotenv_values

from qupersync_assets_tests.support.integration import Command


def test_logins_are_tested_and_written(
    qupersync: Command, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.env"
    done = qupersync("init", "--file", str(file), "--json")
    assert done.code == 0 and done.json["tested"], done.err
    written = dotenv_values(file, interpolate=False)
    for name in ("REDSHIFT_PASSWORD", "POSTGRES_PASSWORD", "REDSHIFT_SSL"):
        assert written[name] == environment[name]
    assert file.stat().st_mode & 0o777 == 0o600

    before = file.read_text()
    monkeypatch.setenv("POSTGRES_PASSWORD", "wrong")
    refused = qupersync("init", "--file", str(file), "--force")
    assert refused.code == 1 and "password" in refused.err and file.read_text() == before
