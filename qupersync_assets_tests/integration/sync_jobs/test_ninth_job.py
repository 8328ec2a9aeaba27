"""The examples of docs/ninth-job.md, a sync job and a migration, work in a copy of the package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import qupersync_assets
import qupersync_assets_tests
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import migrate, versions
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.integration import Query

DOCUMENT = (Path(__file__).parents[3] / "docs" / "ninth-job.md").read_text("utf-8")
NINTH, MIGRATION = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
[COLUMN] = re.findall(r"^```diff\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
LIST_ALL_AND_SYNC = """
import json
from qupersync_assets.definitions import defs

definitions = defs()
repository = definitions.get_repository_def()
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
assert definitions.resolve_job_def("session_sync").execute_in_process().success
"""


# The tests of all jobs, for this one; `-k` also finds it in the names of their columns and views.
RUN_TESTS = """
import sys, pytest

tests = ["qupersync_assets_tests/unit/sync_jobs", "qupersync_assets_tests/unit/defs/test_definitions.py"]
sys.exit(pytest.main([*tests, "-n0", "-p", "no:cacheprovider", "--tb=short", "-k", "session"]))
"""
MIGRATE = """
from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.postgres.schema import migrate
from qupersync_assets.settings import Settings

print(migrate(postgres_resource(Settings.load())))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the package; return its folder."""
    package = Path(qupersync_assets.__file__).parent
    target = tmp_path / package.name
    shutil.copytree(package, target, ignore=shutil.ignore_patterns(".*", "sandbox"))
    return target


def run(copy: Path, code: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run code with the copy of the package."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    root = copy.parent
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment | variables | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=root,
        capture_output=True,
        text=True,
    )


def write_job(copy: Path, text: str) -> None:
    """Write the sync job to the file that the document names."""
    [name] = re.findall(r"write it to `qupersync_assets/(\S+\.py)`", DOCUMENT)
    (copy / name).write_text(text, "utf-8")


def test_a_file_is_a_complete_job_that_syncs(
    copy: Path, environment: dict[str, str], source: Query, target: Query
) -> None:
    write_job(copy, NINTH)
    source("INSERT INTO stv_sessions VALUES (now(), 1, 'qupersync_reader', 'dev', 0), (now(), 2, 'anna', 'dev', 9)")
    done = run(copy, LIST_ALL_AND_SYNC, environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    others = {f"quper/{spec.table.name}" for spec in default_specs()}
    found["assets"].remove("quper/health_findings")  # of a job of its own
    assert set(found["assets"]) == {"quper/sessions", *others}  # which has it too where a user followed the page
    assert "redshift/stv_sessions" in found["sources"]
    assert found["upstream"]["quper/sessions"] == ["redshift/stv_sessions"]
    assert {"quper/sessions:no_skipped_rows", "quper/sessions:source_schema"} <= set(found["checks"])
    assert sorted(found["scheduled"]) == sorted(found["assets"])
    rows = target("SELECT process, user_name, timeout_s FROM quper.sessions_current ORDER BY process")
    assert rows == [(1, "qupersync_reader", 0), (2, "anna", 9)]
    logs = target("SELECT sync_job_id, status, rows_inserted FROM quper.sync_logs")
    assert logs == [("session_sync", "success", 2)]


def test_the_properties_of_every_job_hold_for_it(copy: Path) -> None:
    write_job(copy, NINTH)
    tests = Path(qupersync_assets_tests.__file__).parent
    shutil.copytree(tests, copy.parent / tests.name, ignore=shutil.ignore_patterns(".*", "__pycache__", "e2e"))
    project = tests.parent
    for name in (".env.example", "pyproject.toml", "deploy", "docs"):
        (copy.parent / name).symlink_to(project / name)
    shutil.copytree(project / "qupersync_assets" / "sandbox", copy / "sandbox")
    done = run(copy, RUN_TESTS, {})
    assert done.returncode == 0 and re.search(r"\d\d passed", done.stdout), done.stdout + done.stderr


def test_two_jobs_with_the_same_id_are_refused(copy: Path) -> None:
    write_job(copy, NINTH.replace("session_sync", "node_details_sync"))
    done = run(copy, "from qupersync_assets.sync_jobs import all_specs; all_specs()", {})
    assert done.returncode == 1
    assert "'node_details_sync' is defined in two modules" in done.stderr


def test_the_migration_follows_the_newest_version_and_adds_its_column(
    copy: Path, environment: dict[str, str], bare: PostgresResource, target: Query
) -> None:
    newest = versions()[-1]
    assert migrate(bare) == (None, newest)
    [name] = re.findall(r"write this to\s+`qupersync_assets/(\S+\.py)`", DOCUMENT)
    [specs] = re.findall(r"the column to the spec, in `qupersync_assets/(\S+\.py)`", DOCUMENT)
    (copy / name).write_text(MIGRATION, "utf-8")
    text = (copy / specs).read_text("utf-8")
    for hunk in COLUMN.split("@@\n"):
        old, new = (re.sub(r"^[ +-]", "", re.sub(rf"^[{sign}].*\n", "", hunk, flags=re.M), flags=re.M) for sign in "+-")
        assert text.count(old) == 1
        text = text.replace(old, new)
    (copy / specs).write_text(text, "utf-8")
    done = run(copy, MIGRATE, environment)
    assert str((newest, f"{int(newest) + 1:04}")) in done.stdout, done.stderr
    columns = target(
        "SELECT is_generated, col_description('quper.node_details'::regclass, ordinal_position) "
        "FROM information_schema.columns WHERE table_name = 'node_details' AND column_name = 'free_mb'"
    )
    assert columns == [("ALWAYS", "free space, in MB")]
