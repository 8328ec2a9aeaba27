"""Measures a run of all default jobs without new rows: of QuperSync, of the same assets with Dagster's default run
launcher, executor and storage, and of the predecessor, which reads 5,000 rows again.

The runs are launched through the API of a webserver, at once.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any, NamedTuple

import psutil
import yaml

from benchmarks.contender import PROJECT
from benchmarks.contenders import SEED, seed_environment
from benchmarks.process import family_cpu_seconds
from benchmarks.rounds import Log, Results, rotated
from benchmarks.world import World
from qupersync_assets.defs.names import JOB_NAME
from qupersync_assets.serve.dagster_processes import RUN_SERVER
from qupersync_assets.serve.run_server_socket import NAME as SOCKET_NAME

QUPERSYNC, DEFAULT = "QuperSync", "Dagster's default launcher, executor and storage"
TASK = "tick"
SEED_ROWS = 5000


class Kind(NamedTuple):
    """How a contender starts its runs."""

    module: str
    instance: str  # added to dagster.yaml
    has_server: bool


# The queue needs the daemon, whose own work is not part of a tick.
_AT_ONCE = """
run_coordinator: { module: dagster._core.run_coordinator, class: DefaultRunCoordinator }
"""
_DEFAULT = """
storage: { postgres: { postgres_url: "STORAGE" } }
run_launcher: { module: dagster._core.launcher, class: DefaultRunLauncher }
compute_logs: { module: dagster._core.storage.local_compute_log_manager, class: LocalComputeLogManager,
  config: { base_dir: FOLDER } }
"""
KINDS = {
    QUPERSYNC: Kind("qupersync_assets.definitions", _AT_ONCE, True),
    DEFAULT: Kind("benchmarks.default_executor", _AT_ONCE + _DEFAULT, False),
}
_LOCATION = "measured"
_SUBREAPER = 36  # https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html
_SECONDS = 300.0
_LAUNCH = """mutation ($location: String!, $job: String!) {
  launchRun(executionParams: {mode: "default", runConfigData: {}, selector: {
    repositoryLocationName: $location, repositoryName: "__repository__", jobName: $job}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_STATUS = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { status creationTime endTime } } }"""
_STATEMENT = re.compile(r"^db=(\S*) app=(.*?) LOG:  (?:statement|execute [^:]*): ")


def measure(world: World, rows: int, rounds: int, log: Log) -> Results:
    """Measure seconds, CPU seconds and statements of an idle tick, for all."""
    world.history(SEED_ROWS)
    with world.cursor("quper") as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS quper CASCADE")
    results = Results(log)
    # Adopt processes whose parent has ended, so that their CPU seconds are counted.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    with ExitStack() as stack:
        ticks: dict[str, Callable[[], dict[str, float]]] = {}
        for number, (name, kind) in enumerate(KINDS.items()):
            ask = stack.enter_context(_service(world, world.folder / f"dagster_{number}", kind))
            ticks[name] = partial(_tick, ask, world)
        for name, tick in ticks.items():  # the first one loads all existing rows
            tick()
            with _logging(world):
                before = _statements(world)
                tick()
                statements = _statements(world) - before
            results.add(name, "statements", {side: float(count) for side, count in statements.items()})
        ticks[SEED] = stack.enter_context(_predecessor(world))
        ticks[SEED]()
        for tick in ticks.values():
            tick()
        for number in range(rounds):
            for name in rotated(list(ticks), number):
                world.checkpoint()
                busy = world.cpu_seconds()
                took = ticks[name]()
                results.add(name, TASK, took | {"CPU s": took["CPU s"] + world.cpu_seconds() - busy})
    return results


@contextmanager
def _predecessor(world: World) -> Iterator[Callable[[], dict[str, float]]]:
    """Start the predecessor; yield what measures one of its ticks."""
    world.drop("bench_seed")
    command = [sys.executable, "-m", "benchmarks.seed", str(SEED_ROWS), "--serve"]
    with subprocess.Popen(
        command, env=os.environ | seed_environment(world), cwd=PROJECT, stdin=PIPE, stdout=PIPE, text=True
    ) as service:
        assert service.stdin and service.stdout
        requests, answers, process = service.stdin, service.stdout, psutil.Process(service.pid)

        def tick() -> dict[str, float]:
            busy = family_cpu_seconds([process])
            print(file=requests, flush=True)
            took = json.loads(answers.readline())
            return {"s": took["inner_seconds"], "CPU s": family_cpu_seconds([process]) - busy}

        yield tick
        requests.close()


def _tick(ask: Callable[..., Any], world: World) -> dict[str, float]:
    """Measure one run; returns when all of its processes have ended."""
    before = _family(world)
    busy = family_cpu_seconds(before)
    launched = ask(_LAUNCH, location=_LOCATION, job=JOB_NAME)["launchRun"]
    run_id = launched["run"]["runId"]
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.3)
        run = ask(_STATUS, id=run_id)["runOrError"]
        if run["status"] in ("SUCCESS", "FAILURE", "CANCELED"):
            break
    if run["status"] != "SUCCESS":
        raise RuntimeError(f"Run {run_id} is {run['status']}.")
    while time.monotonic() < deadline and len(_running(_family(world))) > len(_running(before)):
        time.sleep(0.1)
    return {"s": run["endTime"] - run["creationTime"], "CPU s": family_cpu_seconds(_family(world)) - busy}


def _family(world: World) -> list[psutil.Process]:
    """Return all child processes without those of PostgreSQL and the gateways."""
    servers = set(world.processes())
    return [p for p in psutil.Process().children(recursive=True) if p not in servers]


def _running(family: list[psutil.Process]) -> list[psutil.Process]:
    """Return the running processes, without the resource tracker that a code server keeps."""
    running = []
    for process in family:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            ended = process.status() == psutil.STATUS_ZOMBIE
            if not ended and not any("resource_tracker" in word for word in process.cmdline()):
                running.append(process)
    return running


@contextmanager
def _service(world: World, folder: Path, kind: Kind) -> Iterator[Callable[..., Any]]:
    """Start a webserver, and the run server; yield a function that sends GraphQL queries."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "storage").mkdir()
    instance = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    storage = world.urls()[1].replace("postgresql:", "postgresql+psycopg2:")
    changed = kind.instance.replace("FOLDER", str(folder / "storage")).replace("STORAGE", storage)
    instance |= yaml.safe_load(changed)
    (folder / "dagster.yaml").write_text(json.dumps(instance))  # JSON is YAML
    module = {"module_name": kind.module, "attribute": "defs", "location_name": _LOCATION}
    workspace = folder / "workspace.yaml"
    workspace.write_text(json.dumps({"load_from": [{"python_module": module}]}))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    program = Path(sysconfig.get_path("scripts")) / "dagster-webserver"
    commands: list[list[str | Path]] = [[program, "-w", workspace, "-h", "127.0.0.1", "-p", str(port)]]
    if kind.has_server:
        commands.append([sys.executable, "-m", RUN_SERVER])
    environment = {**os.environ, **world.environment, "DAGSTER_HOME": str(folder)}
    with (folder / "log").open("w") as log:
        processes = [
            subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=log, stderr=log) for command in commands
        ]

    def ask(query: str, **variables: str) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            response = json.load(answer)
        if response.get("errors"):
            raise RuntimeError(f"Dagster refuses a query: {response['errors']}")
        return response["data"]

    def is_up() -> bool:
        with suppress(OSError):
            ask("{ version }")
            return not kind.has_server or (folder / "storage" / SOCKET_NAME).exists()
        return False

    try:
        deadline = time.monotonic() + _SECONDS
        while not is_up() and processes[0].poll() is None and time.monotonic() < deadline:
            time.sleep(0.3)
        yield ask
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


@contextmanager
def _logging(world: World) -> Iterator[None]:
    """Let PostgreSQL log all statements of new sessions."""
    with world.cursor("quper") as cursor:
        cursor.execute("ALTER SYSTEM SET log_line_prefix = 'db=%d app=%a '")
        cursor.execute("SELECT pg_reload_conf()")
        for database in ("redshift", "quper"):
            cursor.execute(f"ALTER DATABASE {database} SET log_statement = 'all'")
        yield
        for database in ("redshift", "quper"):
            cursor.execute(f"ALTER DATABASE {database} RESET log_statement")


def _statements(world: World) -> Counter[str]:
    """Count the statements of each side in the log."""
    found: Counter[str] = Counter()
    with world.log.open(errors="replace") as log:
        for line in log:
            if statement := _STATEMENT.match(line):
                database, application = statement.groups()
                side = "by Dagster" if application != "qupersync" else "to PostgreSQL"
                found["to Redshift" if database == "redshift" else side] += 1
    return found
