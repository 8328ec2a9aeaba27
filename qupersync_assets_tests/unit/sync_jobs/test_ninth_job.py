"""A further sync job is one further file, the one of docs/ninth-job.md; tried in a copy of the package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import qupersync_assets
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.unit.conftest import REQUIRED

DOCUMENT = (Path(__file__).parents[3] / "docs" / "ninth-job.md").read_text("utf-8")
[NINTH, *_] = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
LIST_ALL = """
import json
from qupersync_assets.definitions import defs

repository = defs().get_repository_def()
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


RUN_IT = """
from qupersync_assets.definitions import defs

assert defs().resolve_job_def("session_sync").execute_in_process().success
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder `sync_jobs` of a copy of the package."""
    package = Path(qupersync_assets.__file__).parent
    target = tmp_path / package.name
    shutil.copytree(package, target, ignore=shutil.ignore_patterns(".*", "__pycache__", "sandbox"))
    return target / "sync_jobs"


def run(syncs: Path, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code against the copy."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    root = syncs.parents[1]
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment | REQUIRED | variables | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=root,
        capture_output=True,
        text=True,
    )


def name_of_the_file() -> str:
    """Where the document says to write it."""
    [name] = re.findall(r"write it to `qupersync_assets/sync_jobs/(\w+\.py)`", DOCUMENT)
    return name


def test_a_file_beside_the_others_is_a_whole_job(copy: Path) -> None:
    (copy / name_of_the_file()).write_text(NINTH, "utf-8")
    done = run(copy, LIST_ALL)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "quper/sessions" in found["assets"] and len(found["assets"]) == len(all_specs()) + 1
    assert "redshift/stv_sessions" in found["sources"]
    assert found["upstream"]["quper/sessions"] == ["redshift/stv_sessions"]
    assert {"quper/sessions:no_skipped_rows", "quper/sessions:source_schema"} <= set(found["checks"])
    assert sorted(found["scheduled"]) == sorted(found["assets"])


def test_it_syncs(copy: Path, sandbox: Sandbox) -> None:
    (copy / name_of_the_file()).write_text(NINTH, "utf-8")
    with closing(sandbox.connect_quper()) as target, target, target.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS quper CASCADE")
    with closing(sandbox.connect_redshift()) as source, source, source.cursor() as cursor:
        cursor.execute("TRUNCATE stv_sessions")
        cursor.execute(
            "INSERT INTO stv_sessions VALUES (now(), 1, 'qupersync_reader', 'dev', 0), (now(), 2, 'anna', 'dev', 9)"
        )
    done = run(copy, RUN_IT, **sandbox.environment())
    assert done.returncode == 0, done.stderr
    with closing(sandbox.connect_quper()) as target, target.cursor() as cursor:
        cursor.execute("SELECT process, user_name, timeout_s FROM quper.sessions_current ORDER BY process")
        assert cursor.fetchall() == [(1, "qupersync_reader", 0), (2, "anna", 9)]
        cursor.execute("SELECT sync_job_id, status, rows_inserted FROM quper.sync_logs")
        assert cursor.fetchall() == [("session_sync", "success", 2)]


def test_two_jobs_of_one_name_are_refused(copy: Path) -> None:
    ninth = NINTH.replace("session_sync", "node_details_sync")
    (copy / name_of_the_file()).write_text(ninth, "utf-8")
    done = run(copy, "from qupersync_assets.sync_jobs import all_specs; all_specs()")
    assert done.returncode == 1
    assert "'node_details_sync' stands in two modules" in done.stderr
