"""SYNC_EXECUTOR=celery: two workers and a real broker, and the steps of a killed worker."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from qupersync_assets.postgres.advisory_lock import JobConnection, JobLocked
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.faults import Fault
from qupersync_assets.serve.event_storage import decompress
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.integration.conftest import environment, filled, postgres, source, target
from qupersync_assets_tests.support.demo_process import free_port, until
from qupersync_assets_tests.support.expected_rows import oracle
from qupersync_assets_tests.support.integration import Query

__all__ = ["environment", "filled", "postgres", "source", "target"]

BIN = Path(sysconfig.get_path("scripts"))


class Process:
    """A command as a process group, with its output in a file."""

    def __init__(self, log: Path, environment: dict[str, str], *command: Any) -> None:
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [str(c) for c in command], env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def output(self) -> str:
        return self._log.read_text("utf-8")

    def kill(self) -> None:
        """Kill it with all its children, as the end of its container or machine would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


class Cluster:
    """A broker, two workers, and runs that they execute."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.environment = {**os.environ, **variables, "DAGSTER_HOME": str(folder), "TMPDIR": str(folder)}
        self.password = secrets.token_hex()
        self.port = free_port()
        self.environment["CELERY_BROKER_URL"] = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        self.secrets = {n: v for n, v in variables.items() if "PASSWORD" in n} | {"broker": self.password}
        self._folder = folder
        self.workers: list[Process] = []

    def start(self, name: str, *command: Any) -> Process:
        return Process(self._folder / name, self.environment, *command)

    def start_worker(self, name: str) -> Process:
        arguments = ["-A", "qupersync_assets.celery_worker", "worker", "-n", f"{name}@%h", "--loglevel", "INFO"]
        return self.start(name, BIN / "celery", *arguments)

    def start_run(self) -> Process:
        return self.start(
            "run", BIN / "dagster", "job", "execute", "-m", "qupersync_assets.definitions", "-j", "qupersync_main"
        )


@contextmanager
def killed_at_the_end(process: Process) -> Iterator[Process]:
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture
def cluster(filled: Sandbox, environment: dict[str, str], project: Path) -> Iterator[Cluster]:
    """Two workers on a Redis with a password."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("Celery is NOT tested: there is no redis-server; apt-get install redis-server brings it")
    variables = {
        **environment,
        "SYNC_EXECUTOR": "celery",
        "SYNC_MAX_CONCURRENT": "2",
        "SYNC_BATCH_SIZE": "100",
        "CELERY_STEP_TIMEOUT": "40",
    }
    cluster = Cluster(project, variables)
    with ExitStack() as stack:
        settings = f"port {cluster.port}\nbind 127.0.0.1\nrequirepass {cluster.password}\nsave ''\ndir {project}\n"
        (project / "redis.conf").write_text(settings)
        stack.enter_context(killed_at_the_end(cluster.start("redis", server, project / "redis.conf")))
        for name in ("one", "two"):
            worker = cluster.start_worker(name)
            cluster.workers.append(stack.enter_context(killed_at_the_end(worker)))
        until(lambda: all("ready." in worker.output() for worker in cluster.workers), 60)
        yield cluster


JOB = "query_history_sync"


def holder(target: Query, resource: PostgresResource) -> psutil.Process:
    """Return the process that loads JOB."""
    with closing(JobConnection(resource.engine(), "sandbox", JOB)) as another, pytest.raises(JobLocked) as busy:
        another.begin().__enter__()
    (backend,) = re.findall(r"PostgreSQL process (\d+)", str(busy.value))
    ((port,),) = target("SELECT client_port FROM pg_stat_activity WHERE pid = %s", [backend])
    (pid,) = [end.pid for end in psutil.net_connections("tcp") if end.laddr.port == port and end.pid and end.raddr]
    return psutil.Process(pid)


@pytest.mark.parametrize("victim", ["process", pytest.param("worker", marks=pytest.mark.long)])
def test_a_step_of_a_killed_worker_is_executed_by_another(
    cluster: Cluster, sandbox: Sandbox, postgres: PostgresResource, source: Query, target: Query, victim: str
) -> None:
    """At once if the worker's process has died, after CELERY_STEP_TIMEOUT if the whole worker has."""
    half_way = sandbox.gateway.fault = Fault(
        "stall", "(?s)DECLARE.*FROM sys_query_history\nLEFT JOIN pg_user", after=100_000
    )
    with killed_at_the_end(cluster.start_run()) as run:
        until(lambda: half_way.fired, 90)
        # The first batch may be written after the read of the next one stalls.
        running = "SELECT batches FROM quper.sync_logs WHERE sync_job_id = %s AND status = 'running' AND batches > 0"
        ((batches,),) = until(lambda: target(running, [JOB]), 20)
        assert batches < 15
        process = holder(target, postgres)
        (worker,) = [w for w in cluster.workers if w.process.pid == process.ppid()]
        if victim == "process":
            process.kill()
        else:
            worker.kill()
        assert run.process.wait(150) == 0, run.output()
    output = "".join(w.output() for w in cluster.workers)
    assert ("signal 9 (SIGKILL)" in output) == (victim == "process")
    events = "".join(decompress(e) for (e,) in target("SELECT event FROM event_logs UNION SELECT run_body FROM runs"))
    with Redis(port=cluster.port, password=cluster.password, decode_responses=True) as broker:
        answers = "".join(str(broker.get(key)) for key in broker.scan_iter("celery-task-meta-*"))
    for text in (output, run.output(), events, answers):
        assert text and not [name for name, secret in cluster.secrets.items() if secret in text]
    rows = target("SELECT sync_job_id, status, attempts > 1 FROM quper.sync_logs")
    assert len(rows) == len(default_specs()) and (JOB, "success", True) in rows
    assert {status for _, status, _ in rows} == {"success"}
    for spec in default_specs():
        expected, actual = oracle(spec, source, target)
        assert len(actual) > 1 and actual == expected, spec.sync_job_id
