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

from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.conftest import PROJECT
from qupersync_assets_tests.support.demo_process import ENV_FILE, remaining_processes

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


def summary(output: str) -> dict[str, tuple[str, ...]]:
    """The cells of the summary by job: status, and rows extracted, inserted, updated, unchanged and skipped."""
    lines = re.findall(r"^(\w+_sync) +(\w+)" + 5 * r" +([\d,]+)" + "$", output, re.MULTILINE)
    return {job: tuple(cells) for job, *cells in lines}


def test_a_second_demo_loads_only_new_rows(installed: Path, tmp_path: Path) -> None:
    qupersync = installed / "qupersync"
    where = run([installed / "python", "-c", "import qupersync_assets; print(qupersync_assets.__file__)"], tmp_path)
    assert where.stdout.startswith(str(installed.parent)), "the package of the clone was tested"
    (tmp_path / ".env").write_text(ENV_FILE)
    first = run([qupersync, "demo", "--once"], tmp_path, COLUMNS="140")
    assert first.returncode == 0, first.stdout + first.stderr
    assert (tmp_path / ".qupersync" / "dagster" / "dagster.yaml").is_file()
    rows = summary(first.stdout)
    assert rows.keys() == {spec.sync_job_id for spec in all_specs()} - {"serverless_usage_sync"}, first.stdout
    assert f"Jobs: {len(rows)} success" in first.stdout
    assert all(extracted == inserted != "0" for _, extracted, inserted, *_ in rows.values())
    assert "Traceback" not in first.stderr
    assert not remaining_processes(tmp_path)
    *_, heading, worst, next_one, third, page = first.stdout.splitlines()
    assert heading == "Fix first:" and worst == "  critical: The storage of a node will soon be full: node 1", (
        first.stdout
    )
    assert all(re.fullmatch("  (critical|warning): .+: .+", line) for line in (next_one, third))
    file = tmp_path / ".qupersync" / "health.html"
    assert page == f"All findings, with plots: {file.resolve().as_uri()}" and "node 1" in file.read_text("utf-8")

    # Another mode, with the state of the first demo.
    second = run([qupersync, "demo", "--once", "--mode", "serverless", "--json"], tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    jobs = {job["sync_job_id"]: job for job in json.loads(second.stdout)["jobs"]}
    queries = jobs["query_history_sync"]
    assert queries["rows_inserted"] and queries["rows_unchanged"]
    assert queries["rows_extracted"] < int(rows["query_history_sync"][1].replace(",", "")) / 2
    unavailable = [job for job, row in jobs.items() if row["status"] == "unavailable"]
    assert "node_details_sync" in unavailable and jobs.keys() == {spec.sync_job_id for spec in all_specs()}
    assert {row["status"] for row in jobs.values()} == {"success", "unavailable"}
    assert "stv_node_storage_capacity" in jobs["node_details_sync"]["error"]
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize("verb", ["doctor", "migrate", "up"])
def test_a_verb_without_settings_names_the_one_that_asks_for_them(installed: Path, tmp_path: Path, verb: str) -> None:
    done = run([installed / "qupersync", verb, "--json"], tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert json.loads(done.stdout) and "qupersync init" in done.stdout, done.stdout
