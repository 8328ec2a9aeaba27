"""A further sync job is one further file, and two of one name are refused; both in a copy of the package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import qupersync_assets
from qupersync_assets.syncs import all_specs

from .conftest import REQUIRED

NINTH = """
from sqlalchemy import BigInteger, DateTime, Integer, Text
from qupersync_assets.spec import SyncSpec, column, quper_table

SPEC = SyncSpec(
    sync_job_id="session_sync",
    table=quper_table(
        "sessions",
        column("process", Integer(), "process id"),
        column("starttime", DateTime(timezone=True), "start (UTC)"),
        column("user_name", Text(), "user", padded=True),
        key=("process", "starttime"),
        comment="Sessions.",
    ),
    kind="snapshot",
    description="Who is connected.",
    sources=("stv_sessions",),
    tail="FROM stv_sessions",
)
"""
LIST_ALL = """
import json
from qupersync_assets.definitions import defs

repository = defs.get_repository_def()
graph = repository.asset_graph
[schedule] = [s for s in repository.schedule_defs if s.job_name == "qupersync_main"]
print(json.dumps({
    "assets": [key.to_user_string() for key in graph.materializable_asset_keys],
    "sources": [key.to_user_string() for key in graph.external_asset_keys],
    "upstream": {k.to_user_string(): [p.to_user_string() for p in graph.get(k).parent_keys]
                 for k in graph.materializable_asset_keys},
    "checks": [f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys],
    "scheduled": [key.to_user_string()
                  for key in repository.get_job(schedule.job_name).asset_layer.executable_asset_keys],
}))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder `syncs` of a copy of the package."""
    package = Path(qupersync_assets.__file__).parent
    target = tmp_path / package.name
    shutil.copytree(package, target, ignore=shutil.ignore_patterns(".*", "__pycache__", "sandbox"))
    return target / "syncs"


def run(syncs: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code against the copy."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    root = syncs.parents[1]
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment | REQUIRED | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=root,
        capture_output=True,
        text=True,
    )


def test_a_file_beside_the_others_is_a_whole_job(copy: Path) -> None:
    (copy / "sessions.py").write_text(NINTH, "utf-8")
    done = run(copy, LIST_ALL)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "quper/sessions" in found["assets"] and len(found["assets"]) == len(all_specs()) + 1
    assert "redshift/stv_sessions" in found["sources"]
    assert found["upstream"]["quper/sessions"] == ["redshift/stv_sessions"]
    assert {"quper/sessions:no_skipped_rows", "quper/sessions:source_schema"} <= set(found["checks"])
    assert sorted(found["scheduled"]) == sorted(found["assets"])


def test_two_jobs_of_one_name_are_refused(copy: Path) -> None:
    ninth = NINTH.replace("session_sync", "node_details_sync")
    (copy / "sessions.py").write_text(ninth, "utf-8")
    done = run(copy, "from qupersync_assets.syncs import all_specs; all_specs()")
    assert done.returncode == 1
    assert "'node_details_sync' stands in two modules" in done.stderr
