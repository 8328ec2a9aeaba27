"""Modules are imported without settings and quickly: the environment is read when Dagster or Celery asks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import qupersync_assets

PROJECT = Path(qupersync_assets.__file__).parents[1]
MODULES = ["definitions", "defs", "forkserver_preload", "celery_worker"]
OBJECTS = ["definitions.defs()", "celery_worker.app"]
# In one process, because each one would import Dagster.
CODE = f"""
import contextlib, importlib, io, json, sys

sys.path.insert(0, {str(PROJECT)!r})
found = {{}}
for module in {MODULES}:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        importlib.import_module(f"qupersync_assets.{{module}}")
    found[module] = {{"output": output.getvalue(), "modules": [*sys.modules]}}
import qupersync_assets
for expression in {OBJECTS}:
    try:
        eval(f"qupersync_assets.{{expression}}")
    except Exception as error:
        found[expression] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The output and the loaded modules after each import, and the error of each object, in an empty environment."""
    command = [sys.executable, "-W", "error::DeprecationWarning:qupersync_assets", "-c", CODE]
    done = subprocess.run(command, env={}, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_imported_with_an_empty_environment(found: dict[str, Any], module: str) -> None:
    assert found[module]["output"] == ""


@pytest.mark.parametrize("expression", OBJECTS)
def test_settings_are_read_when_an_object_is_built(found: dict[str, Any], expression: str) -> None:
    assert "POSTGRES_HOST is not set" in found[expression]


def test_loading_imports_no_slow_library(found: dict[str, Any]) -> None:
    assert "dagster" in found["definitions"]["modules"]
    assert not {"pandas", "redshift_connector", "numpy", "boto3"} & set(found["definitions"]["modules"])
