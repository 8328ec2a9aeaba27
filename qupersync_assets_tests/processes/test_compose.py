"""The processes of deploy/compose.yaml: they connect over gRPC, and each can be restarted alone."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import migrate
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.serve.run_server_socket import NAME as SOCKET_NAME
from qupersync_assets.settings.postgres import StorageSettings
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.containers import PASSWORDS, PROJECT, Image, Service, compose_services
from qupersync_assets_tests.support.demo_process import (
    RunningInstance,
    execute,
    free_port,
    has_ended,
    run_processes,
    until,
    waiting,
)

LAUNCH = """mutation { launchRun(executionParams: {runConfigData: {}, selector: {repositoryLocationName: "qupersync",
  repositoryName: "__repository__", jobName: "qupersync_main"}})
  { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


class Deployment(RunningInstance):
    """Code server, webserver and daemon on a sandbox, without a schedule that starts runs meanwhile.

    The webserver responds with an error once for each connection that an outage of PostgreSQL has closed.
    """

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        super().__init__(sandbox, free_port())
        variables = sandbox.environment()
        env_file = folder / ".env"
        redshift = [f"{name}={value}" for name, value in variables.items() if not name.startswith("POSTGRES_")]
        env_file.write_text(
            "\n".join([(PROJECT / ".env.example").read_text("utf-8"), *redshift, "SYNC_INTERVAL=86400"])
        )
        places = {
            "postgres": variables["POSTGRES_HOST"],
            "qupersync_writer": variables["POSTGRES_USER"],
            "5432": variables["POSTGRES_PORT"],
            "code": "127.0.0.1",
            "4000": str(free_port()),
            "3000": str(self.port),
            "9464": str(free_port()),
            "0.0.0.0": "127.0.0.1",
        }
        image = Image(folder / "image")
        services = compose_services({**PASSWORDS, "POSTGRES_PASSWORD": variables["POSTGRES_PASSWORD"]})
        self.home = Path(image.environment["DAGSTER_HOME"])
        self.services = {
            name: Service(name, services[name], image, env_file, places)
            for name in ("code", "runs", "webserver", "daemon", "metrics")
        }

    def start(self) -> None:
        for name, service in self.services.items():
            until(partial(self._healthy_after_restarts, name, service), 120)

    def _healthy_after_restarts(self, name: str, service: Service) -> bool:
        # Two processes that create Dagster's tables at the same time may fail.
        self._start_what_ended()
        with suppress(AssertionError):
            return self._has_started(name, service) and service.healthy()  # a check starts Python
        return False

    def _has_started(self, name: str, service: Service) -> bool:
        """Return whether a service listens, or the daemon has written a heartbeat."""
        if name == "daemon":
            with closing(self.sandbox.connect_quper()) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT to_regclass('daemon_heartbeats') IS NOT NULL")
                if cursor.fetchone() == (True,):
                    cursor.execute(
                        "SELECT count(*) FROM daemon_heartbeats WHERE timestamp > now() - interval '1 minute'"
                    )
                    return cursor.fetchone() != (0,)
            return False
        if name == "runs":
            return (self.home / "storage" / SOCKET_NAME).exists()
        variables = {"code": "DAGSTER_GRPC_PORT", "webserver": "DAGSTER_WEBSERVER_PORT", "metrics": "METRICS_PORT"}
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(service.environment[variables[name]]))):
            return True
        return False

    def _start_what_ended(self) -> None:
        for service in self.services.values():
            if service.process is None or service.process.poll() is not None:
                service.start()

    def health(self) -> bool:
        """Return whether the metrics service reports health."""
        port = self.services["metrics"].environment["METRICS_PORT"]
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as found:
            return bool(json.load(found)["ok"])
        return False

    def restart_what_ended(self) -> None:
        """Restart ended services for 30 s, as `restart: unless-stopped` does."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            self._start_what_ended()
            time.sleep(1)
        self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        for service in self.services.values():
            until(service.healthy, 120)

    def launch(self) -> str:
        """Start a run through the webserver; return its id."""

        def run() -> Any:
            with suppress(OSError):
                return self.ask(LAUNCH)["launchRun"].get("run")

        run_id: str = until(run, 60)["runId"]
        return run_id

    def end(self, run_id: str) -> str:
        """Return the final status of a run."""

        def ended() -> str | None:
            with suppress(OSError):
                status = self.status(run_id)
                return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None
            return None

        status: str = until(ended, 180)
        return status

    def succeeds(self) -> None:
        run_id = self.launch()
        assert self.end(run_id) == "SUCCESS", self.services["code"].output()
        # The first sync of the daemon may load some jobs at the same time.
        ended = self._logs("WHERE run_id = %s AND status IN ('success', 'skipped')", run_id)
        assert len(ended) == len(default_specs())
        until(lambda: len(self._logs("WHERE status = 'success'")) >= len(default_specs()), 60)


@pytest.fixture(scope="module")
def deployment(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    execute(sandbox.connect_quper, "DROP SCHEMA IF EXISTS quper CASCADE")
    target = {n.lower(): v for n, v in sandbox.environment().items() if n.startswith("POSTGRES_")}
    migrate(PostgresResource(StorageSettings.load(**target)))
    deployed = Deployment(sandbox, tmp_path_factory.mktemp("deployment"))
    try:
        deployed.start()
        yield deployed
    finally:
        for service in deployed.services.values():
            service.kill()


def test_the_services_are_healthy_and_execute_a_launched_run(deployment: Deployment) -> None:
    deployment.succeeds()
    until(deployment.health, 60)  # the daemon's first heartbeat
    # All other folders are read-only in the containers. The last two belong to telemetry, which is disabled.
    written = {path.name for path in deployment.home.iterdir()}
    assert written <= {"dagster.yaml", "storage", "logs", ".logs_queue"}
    secret = deployment.sandbox.environment()["REDSHIFT_PASSWORD"]
    informed = {name for name, service in deployment.services.items() if secret in service.environment.values()}
    assert informed == {"code", "runs", "metrics"}


@pytest.mark.long
@pytest.mark.parametrize("name", ["webserver", "daemon", "code", "runs", "metrics"])
def test_each_service_can_be_restarted_alone(deployment: Deployment, name: str) -> None:
    service = deployment.services[name]
    service.kill()
    with pytest.raises(AssertionError):
        service.healthy()
    service.start()
    deployment.wait_until_healthy()
    deployment.succeeds()


@pytest.mark.long
def test_a_run_killed_with_its_server_blocks_nothing(deployment: Deployment) -> None:
    with closing(deployment.sandbox.connect_quper()) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE quper.vacuum_history")
        run_id = deployment.launch()
        until(lambda: waiting(deployment.sandbox.connect_quper, "wait_event_type = 'Lock'"), 120)
        deployment.services["runs"].kill()
        blocker.rollback()
    deployment.services["runs"].start()
    deployment.wait_until_healthy()
    assert deployment.end(run_id) == "FAILURE"
    until(lambda: run_id in deployment.runs("failed", "vacuum_history_sync"), 60)
    deployment.succeeds()


@pytest.mark.long
def test_a_run_killed_during_an_outage_of_postgresql_blocks_nothing(deployment: Deployment) -> None:
    server = deployment.sandbox.server
    with closing(deployment.sandbox.connect_quper()) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE quper.vacuum_history")
        run_id = deployment.launch()
        until(lambda: waiting(deployment.sandbox.connect_quper, "wait_event_type = 'Lock'"), 120)
        server.stop()
    try:
        server_of_runs = deployment.services["runs"].process
        assert server_of_runs is not None
        run = run_processes(server_of_runs.pid)
        for process in run:
            process.kill()
        until(lambda: run and all(has_ended(process) for process in run), 20)
        # The end of the run cannot be reported.
        until(lambda: "A process of the run server failed" in deployment.services["runs"].output(), 60)
    finally:
        server.start()
    deployment.restart_what_ended()
    assert deployment.end(run_id) == "FAILURE"
    deployment.succeeds()
