"""The package works in a folder with an unusual name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import qupersync_assets
from qupersync_assets_tests.support.integration import Query


def test_the_schema_is_migrated_from_any_folder(environment: dict[str, str], target: Query, tmp_path: Path) -> None:
    folder = tmp_path / "100%" / "%(here)s %d" / "a b'c\"é"
    package = Path(qupersync_assets.__file__).parent
    shutil.copytree(package, folder / package.name)
    command = [sys.executable, "-m", "qupersync_assets.cli", "migrate"]
    variables = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert target("SELECT count(*) FROM quper.schema_version") == [(1,)]
