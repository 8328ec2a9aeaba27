"""`make up`: the real webserver and daemon on PostgreSQL storage, their schedule, and what killing leaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from qupersync_assets.sandbox import Sandbox


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def until(condition: Callable[[], Any], seconds: float) -> Any:
    """The condition's first true value, or a failure after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds} s: {condition}")


class Served:
    """`make up` on the sandbox, with a sync every ten seconds."""

    def __init__(self, sandbox: Sandbox, project: Path) -> None:
        self.port = free_port()
        self.sandbox = sandbox
        self.environment = {
            **os.environ,
            **sandbox.environment(),
            "SYNC_INTERVAL": "10",
            "UI_PORT": str(self.port),
            "DAGSTER_HOME": str(project / "home"),
        }
        self.log = (project / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "qupersync_assets.serve"],
            cwd=project,
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
        )

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def _logs(self, condition: str, *parameters: Any) -> list[str]:
        with closing(self.sandbox.connect_quper()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('quper.sync_logs')")
            if cursor.fetchone() == (None,):
                return []
            cursor.execute(f"SELECT run_id FROM quper.sync_logs {condition}", parameters)
            return [run_id for (run_id,) in cursor.fetchall()]

    def runs(self, status: str) -> list[str]:
        """The runs with a row of that status in quper.sync_logs."""
        return self._logs("WHERE status = %s GROUP BY run_id", status)

    def whole_run(self, after: float) -> str | None:
        """A run that started all eight jobs after that time, and succeeded."""
        found = self._logs(
            "WHERE status = 'success' AND started_at > to_timestamp(%s) GROUP BY run_id HAVING count(*) = 8",
            after,
        )
        return found[0] if found else None

    def ask(self, query: str) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)["data"]


@pytest.fixture
def served(sandbox: Sandbox, project: Path) -> Iterator[Served]:
    with closing(sandbox.connect_quper()) as connection, connection, connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS quper CASCADE")
    server = Served(sandbox, project)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
            server.process.wait(60)


def test_schedule_survives_a_killed_run_and_ctrl_c_leaves_nothing(served: Served) -> None:
    until(lambda: "QuperSync is up" in served.said() or served.process.poll() is not None, 60)
    assert served.process.poll() is None, served.said()
    until(lambda: served.whole_run(after=0), 60)

    # Killed while it is at work: its rows are closed, and the next run comes.
    with closing(served.sandbox.connect_quper()) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE quper.vacuum_history IN SHARE MODE")
        (run_id,) = until(lambda: served.runs("running"), 40)
        for process in run_processes(served.process.pid):
            process.kill()
        blocker.rollback()
    killed_at = time.time()
    until(lambda: served.whole_run(after=killed_at), 60)
    until(lambda: run_id not in served.runs("running"), 40)
    assert run_id in served.runs("failed")

    answer = served.ask("{ runsOrError(limit: 50) { ... on Runs { results { runId status } } } }")
    statuses = {run["runId"]: run["status"] for run in answer["runsOrError"]["results"]}
    assert statuses[run_id] == "FAILURE"
    assert statuses[served.whole_run(after=killed_at)] in ("STARTED", "SUCCESS")

    family = psutil.Process(served.process.pid).children(recursive=True)
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(60) == 0, served.said()
    gone, alive = psutil.wait_procs(family, timeout=5)
    assert gone and not alive
    assert "Stopped." in served.said()


def run_processes(pid: int) -> list[psutil.Process]:
    """The processes of runs and of their steps, below those of Dagster."""
    return [
        child
        for child in psutil.Process(pid).children(recursive=True)
        if "multiprocessing" in " ".join(child.cmdline())
    ]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SYNC_INTERVAL": "abc"}, ["SYNC_INTERVAL", "abc"]),
        ({"POSTGRES_HOST": ""}, ["POSTGRES_HOST", "not set"]),
    ],
)
def test_bad_settings_are_one_clear_message(
    sandbox: Sandbox, project: Path, variables: dict[str, str], words: list[str]
) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "qupersync_assets.serve"],
        cwd=project,
        env={**os.environ, **sandbox.environment(), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 1
    assert all(word in answer.stderr for word in words)
    assert "Traceback" not in answer.stderr
