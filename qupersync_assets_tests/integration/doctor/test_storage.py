"""`qupersync doctor` says whether Dagster's storage has the pinned settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qupersync_assets.cli import app
from qupersync_assets_tests.support.integration import Query

OWN_CONNECTION = """
storage:
  postgres:
    postgres_db:
      scheme: postgresql+psycopg2
      hostname: {host}
      port: {port}
      username: {user}
      password: {{env: POSTGRES_PASSWORD}}
      db_name: {database}
telemetry: {{enabled: false}}
"""


def storage() -> dict[str, str | None]:
    """The finding about the storage."""
    report = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    (finding,) = [f for f in report["findings"] if f["side"] == "dagster"]
    return {name: finding[name] for name in ("detail", "remedy")}


def write_own_connection(home: Path) -> None:
    names = {name: os.environ[f"POSTGRES_{name.upper()}"] for name in ("host", "port", "user", "database")}
    (home / "dagster.yaml").write_text(OWN_CONNECTION.format(**names))


def test_storage_of_the_project_is_pinned(dagster_home: Path) -> None:
    assert storage() == {"detail": "the connection of POSTGRES_*, with pinned settings", "remedy": None}


def test_other_connection_is_a_problem_if_the_server_sets_something_else(dagster_home: Path, target: Query) -> None:
    write_own_connection(dagster_home)
    assert storage()["remedy"] is None
    target("ALTER ROLE qupersync SET TimeZone = 'Asia/Tokyo'")
    try:
        found = storage()
        assert str(found["detail"]).endswith("settings are not pinned: TimeZone Asia/Tokyo")
        assert "postgresql+qupersync" in str(found["remedy"])
    finally:
        target("ALTER ROLE qupersync RESET ALL")


def test_storage_without_a_server_has_no_session(dagster_home: Path) -> None:
    (dagster_home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    assert storage() == {"detail": "not PostgreSQL", "remedy": None}


def test_storage_that_cannot_be_used_is_a_problem(dagster_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "relative")
    assert "DAGSTER_HOME='relative'" in str(storage()["remedy"])
