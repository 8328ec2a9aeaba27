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
from dotenv import set_key

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

    def __init__(self, sandbox: Sandbox, project: Path, **more: str) -> None:
        self.port = free_port()
        self.sandbox = sandbox
        variables = {**sandbox.environment(), "SYNC_INTERVAL": "10", "UI_PORT": str(self.port), **more}
        for name, value in variables.items():
            set_key(project / ".env", name, value)
        self.log = (project / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "qupersync_assets.serve"],
            cwd=project,
            env={name: value for name, value in os.environ.items() if name not in variables},
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

    def runs(self, status: str, sync_job_id: str) -> list[str]:
        """The runs in which the job has that status in quper.sync_logs."""
        return self._logs("WHERE status = %s AND sync_job_id = %s", status, sync_job_id)

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

    def status(self, run_id: str) -> str:
        """What Dagster says of a run."""
        answer = self.ask(f'{{ runOrError(runId: "{run_id}") {{ ... on Run {{ status }} }} }}')
        status: str = answer["runOrError"]["status"]
        return status


@pytest.fixture(scope="module")
def served(sandbox: Sandbox, new_project: Callable[[], Path]) -> Iterator[Served]:
    """Up and syncing; at the end Ctrl-C, which has to leave nothing behind."""
    execute(sandbox.connect_quper, "DROP SCHEMA IF EXISTS quper CASCADE")
    server = Served(sandbox, new_project())
    try:
        until(lambda: "QuperSync is up" in server.said() or server.process.poll() is not None, 120)
        assert server.process.poll() is None, server.said()
        until(lambda: server.whole_run(after=0), 120)
        yield server
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0, server.said()
        gone, alive = psutil.wait_procs(family, timeout=5)
        assert gone and not alive
        assert "Stopped." in server.said()
    finally:
        if server.process.poll() is None:
            server.process.terminate()
            server.process.wait(60)


def waiting(connect: Callable[[], Any], condition: str) -> bool:
    """Whether a session waits so; only then the run that one sees running is the one that waits."""
    with closing(connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM pg_stat_activity WHERE {condition}")
        return cursor.fetchone() is not None


def execute(connect: Callable[[], Any], sql: str) -> None:
    with closing(connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)


def test_a_terminated_run_is_logged_as_canceled(served: Served) -> None:
    execute(
        served.sandbox.connect_redshift,
        "ALTER TABLE stv_node_storage_capacity RENAME TO capacity; "
        "CREATE VIEW stv_node_storage_capacity AS SELECT c.* FROM pg_sleep(1000) LEFT JOIN capacity c ON true; "
        "GRANT SELECT ON stv_node_storage_capacity TO qupersync_reader",
    )
    try:
        until(lambda: waiting(served.sandbox.connect_redshift, "wait_event = 'PgSleep'"), 120)
        (run_id,) = served.runs("running", "node_details_sync")
        answer = served.ask(f'mutation {{ terminateRun(runId: "{run_id}") {{ __typename }} }}')
        assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
        # At once as a rule; if the signal gets lost in the run's process, when run monitoring gives it up.
        until(lambda: run_id in served.runs("canceled", "node_details_sync"), 150)
    finally:
        execute(
            served.sandbox.connect_redshift,
            # The server still works on what nobody waits for any more, and holds the view.
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'qupersync_reader'; "
            "DROP VIEW stv_node_storage_capacity; ALTER TABLE capacity RENAME TO stv_node_storage_capacity",
        )
    until(lambda: served.status(run_id) == "CANCELED", 90)


def test_a_killed_run_is_closed_and_followed_by_the_next(served: Served) -> None:
    with closing(served.sandbox.connect_quper()) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE quper.vacuum_history")
        until(lambda: waiting(served.sandbox.connect_quper, "wait_event_type = 'Lock'"), 120)
        (run_id,) = served.runs("running", "vacuum_history_sync")
        for process in run_processes(served.process.pid):
            process.kill()
        blocker.rollback()
    killed_at = time.time()
    until(lambda: served.whole_run(after=killed_at), 120)
    until(lambda: run_id not in served.runs("running", "vacuum_history_sync"), 90)
    assert run_id in served.runs("failed", "vacuum_history_sync")
    assert served.status(run_id) == "FAILURE"


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
