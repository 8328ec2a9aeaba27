"""Runs QuperSync as processes; reads its log rows, Dagster's GraphQL API and the process list."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from dotenv import set_key

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.serve.run_server_socket import LOCK_NAME
from qupersync_assets.sync_jobs import default_specs


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def until(condition: Callable[[], Any], seconds: float, pause: float = 0.3) -> Any:
    """Return the first true value of a condition; fail after `seconds`.

    The condition counts as false while PostgreSQL cannot be reached.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(psycopg2.OperationalError):
            value = condition()
            if value:
                return value
        time.sleep(pause)
    raise AssertionError(f"not true within {seconds} s: {condition}")


class RunningInstance:
    """A running QuperSync with a sandbox, and Dagster's UI on a port."""

    def __init__(self, sandbox: Sandbox, port: int) -> None:
        self.sandbox = sandbox
        self.port = port

    def _logs(self, condition: str, *parameters: Any) -> list[str]:
        with closing(self.sandbox.connect_quper()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('quper.sync_logs')")
            if cursor.fetchone() == (None,):
                return []
            cursor.execute(f"SELECT run_id FROM quper.sync_logs {condition}", parameters)
            return [run_id for (run_id,) in cursor.fetchall()]

    def open_runs(self, before: float) -> list[str]:
        """Return the runs from before that time with a row that is still `running`."""
        return self._logs("WHERE status = 'running' AND started_at < to_timestamp(%s)", before)

    def runs(self, status: str, sync_job_id: str) -> list[str]:
        """Return the runs in which the job has that status in quper.sync_logs."""
        return self._logs("WHERE status = %s AND sync_job_id = %s", status, sync_job_id)

    def complete_run(self, after: float) -> str | None:
        """Return a run that started all jobs after that time and succeeded."""
        found = self._logs(
            "WHERE status = 'success' AND started_at > to_timestamp(%s) GROUP BY run_id HAVING count(*) = %s",
            after,
            len(default_specs()),
        )
        return found[0] if found else None

    def ask(self, query: str) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)["data"]

    def answers(self) -> bool:
        """Return whether the webserver responds and reaches PostgreSQL."""
        try:
            return bool(self.ask("{ runsOrError(limit: 1) { __typename } }"))
        except OSError:
            return False

    def status(self, run_id: str) -> str:
        """Return the Dagster status of a run."""
        data = self.ask(f'{{ runOrError(runId: "{run_id}") {{ ... on Run {{ status }} }} }}')
        status: str = data["runOrError"]["status"]
        return status


class Served(RunningInstance):
    """`make up` with the sandbox and a sync every twenty seconds."""

    def __init__(self, sandbox: Sandbox, project: Path, **more: str) -> None:
        super().__init__(sandbox, free_port())
        self.project = project
        variables = {**sandbox.environment(), "SYNC_INTERVAL": "20", "UI_PORT": str(self.port), **more}
        for name, value in variables.items():
            set_key(project / ".env", name, value)
        set_key(project / ".env", "SYNC_INTERVAL", "86400")  # the environment wins, in all processes
        self.log = (project / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "qupersync_assets.serve"],
            cwd=project,
            env={n: v for n, v in os.environ.items() if n not in variables} | {"SYNC_INTERVAL": "20"},
            stdout=self.log,
            stderr=self.log,
        )

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read()


# The settings of an installation, of which the demo uses none.
ENV_FILE = """SYNC_EXECUTOR=celery
CELERY_BROKER_URL=redis://127.0.0.1:1/0
REDSHIFT_IAM=true
CLUSTERS=north,south
POSTGRES_HOST=no-such-host.invalid
DAGSTER_HOME=/no/such/folder
SYNC_INTERVAL=soon
"""


class Demo(RunningInstance):
    """`make demo` in a folder, with a sync every `interval` seconds."""

    def __init__(self, project: Path, interval: int, **more: str) -> None:
        super().__init__(Sandbox(project / ".qupersync" / "sandbox"), free_port())
        self._log = (project / "output").open("w+")
        (project / ".env").write_text(ENV_FILE)
        inherited = {n: v for n, v in os.environ.items() if not re.match("SYNC_|REDSHIFT_|POSTGRES_|CLUSTER_", n)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "qupersync_assets.sandbox.demo"],
            cwd=project,
            env={**inherited, "SYNC_INTERVAL": str(interval), "UI_PORT": str(self.port), **more},
            stdout=self._log,
            stderr=self._log,
        )

    def output(self) -> str:
        self._log.seek(0)
        return self._log.read()


def remaining_processes(project: Path) -> list[str]:
    """Return processes with the project's folder as working directory, in their environment or command, and locks."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(project) or str(project) in " ".join(
                [*process.cmdline(), *process.environ().values()]
            ):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
    locks = [str(path) for path in project.glob(".qupersync/**/*lock") if path.is_file() and path.name != LOCK_NAME]
    return found + locks


def waiting(connect: Callable[[], Any], condition: str) -> bool:
    """Return whether a session waits with that condition on pg_stat_activity."""
    with closing(connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM pg_stat_activity WHERE {condition}")
        return cursor.fetchone() is not None


def execute(connect: Callable[[], Any], sql: str) -> None:
    with closing(connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)


def has_ended(process: psutil.Process) -> bool:
    """Return whether a process has ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def run_processes(pid: int) -> list[psutil.Process]:
    """Return the processes of runs and their steps below a process: the forks of its run server, or of itself, without
    the code server."""
    top = psutil.Process(pid)
    servers = [child for child in [top, *top.children(recursive=True)] if _is_run_server(child)]
    return [child for child in servers[0].children(recursive=True) if not _serves_code(child)] if servers else []


def _serves_code(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any(end.laddr.endswith("/code.sock") for end in process.net_connections("unix"))
    return False


def _is_run_server(process: psutil.Process) -> bool:
    with suppress(psutil.Error):  # a process that has just ended
        return "qupersync_assets.run_server" in process.cmdline()
    return False
