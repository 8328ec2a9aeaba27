"""The wheel, built from the source distribution, in an empty folder: `qupersync demo` and the other verbs need no clone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def run(command: list[str | Path], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    own = re.compile("SYNC_|REDSHIFT_|POSTGRES_|CLUSTER|DAGSTER_|PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not own.match(name)}
    return subprocess.run(
        command, cwd=folder, env={**kept, **variables}, capture_output=True, text=True, timeout=240, check=False
    )


def build(kind: str, source: Path, target: Path) -> Path:
    done = run([sys.executable, "-c", BUILD, kind, target], source)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a virtual environment with the wheel, and with the packages of this one."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"  # a copy: the build writes into its folder
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "qupersync_assets", source / "qupersync_assets", symlinks=True, ignore=ignored)
    sdist = build("build_sdist", source, folder)
    run(["tar", "xzf", sdist], folder)
    wheel = build("build_wheel", folder / sdist.name.removesuffix(".tar.gz"), folder)
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-compile",
        wheel,
    ]
    done = run(pip, folder)
    assert done.returncode == 0, done.stderr
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return python.parent


def test_demo_and_other_verbs_run_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    qupersync = installed / "qupersync"
    where = run([installed / "python", "-c", "import qupersync_assets; print(qupersync_assets.__file__)"], tmp_path)
    assert where.stdout.startswith(str(installed.parent)), "the package of the clone was tested"
    demo = run([qupersync, "demo", "--once", "--json"], tmp_path)
    assert demo.returncode == 0 and json.loads(demo.stdout)["ok"], demo.stderr
    assert (tmp_path / ".qupersync" / "dagster" / "dagster.yaml").is_file()

    for verb in ("doctor", "migrate", "up"):
        done = run([qupersync, verb, "--json"], tmp_path)  # without settings
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert json.loads(done.stdout) and "qupersync init" in done.stdout, done.stdout
