"""Modules can be imported without settings: nothing reads the environment before Dagster or Celery asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import qupersync_assets

PROJECT = Path(qupersync_assets.__file__).parents[1]
MODULES = ["definitions", "celery_worker", "forkserver_preload", "defs"]


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code with an empty environment."""
    code = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); {code}"
    command = [sys.executable, "-W", "error::DeprecationWarning:qupersync_assets", "-c", code]
    return subprocess.run(command, env={}, cwd="/", capture_output=True, text=True)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_imported_with_an_empty_environment(module: str) -> None:
    done = run(f"import qupersync_assets.{module}")
    assert done.returncode == 0, done.stderr
    assert not done.stdout and not done.stderr


@pytest.mark.parametrize("expression", ["qupersync_assets.definitions.defs()", "qupersync_assets.celery_worker.app"])
def test_settings_are_read_when_an_object_is_built(expression: str) -> None:
    module = expression.rpartition(".")[0]
    done = run(f"import {module}; {expression}")
    assert done.returncode == 1
    assert "POSTGRES_HOST is not set" in done.stderr
