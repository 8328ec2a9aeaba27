"""`make demo`: start the sandbox, run all sync jobs once, then serve the Dagster UI with its daemon."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import psycopg2

from qupersync_assets.cli.console import out, print_json
from qupersync_assets.core.environment import DAGSTER_FOLDER, DEMO_ENV_FILE, write_private
from qupersync_assets.core.signals import stop_on_signals, uninterrupted
from qupersync_assets.sandbox import Sandbox, SandboxError
from qupersync_assets.sandbox.demo_health import show_health
from qupersync_assets.sandbox.rules.dialect import MODES, Mode
from qupersync_assets.sandbox.server.postgres_server import PostgresServer
from qupersync_assets.sandbox.workload.workload import Workload
from qupersync_assets.serve.dagster_processes import dagster_processes, free_port, prepare_home
from qupersync_assets.serve.supervisor import STOP_SECONDS, ProcessGroup, ServeError, how_ended
from qupersync_assets.settings import Settings, SettingsError
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets.sync_jobs.serverless_usage import SPEC as SERVERLESS_USAGE

STATE = Path(".qupersync")
# The environment variables for `qupersync --env-file`.
ENV_FILE = DEMO_ENV_FILE
HEALTH_PAGE = STATE / "health.html"
ACTIVITY_SECONDS = 5
# Variables for the other commands, besides the logins.
_SHOWN = ("SYNC_INTERVAL", "SYNC_JOBS", "DAGSTER_HOME")
console = out()


def main() -> int:
    """Run the demo.

    Returns:
        The exit code: 0, or 1 if a job failed or the demo cannot run.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="exit after the summary")
    parser.add_argument("--mode", default=MODES[0], help=f"kind of Redshift to simulate: {', '.join(MODES)}")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout after the jobs")
    options = parser.parse_args()
    once = options.once
    if options.json:
        console.file = sys.stderr
    stop_on_signals()
    try:
        mode = _mode(options.mode)
        with _state_folder(STATE):
            return _demo(once, mode, options.json)
    except (SandboxError, ServeError, SettingsError) as error:
        return _failed(str(error), options.json)
    except psycopg2.OperationalError:  # later the supervisor restarts PostgreSQL
        log = STATE / "sandbox" / "postgres.log"
        return _failed(f"The sandbox's PostgreSQL has ended; see {log}.", options.json)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 0 if not once else 130


def _failed(text: str, as_json: bool) -> int:
    console.print(text, style="red", markup=False, soft_wrap=True)
    if as_json:
        print_json({"error": text})
    return 1


def _mode(name: str) -> Mode:
    """Return the mode of that name; SandboxError if there is none."""
    for mode in MODES:
        if name == mode:
            return mode
    raise SandboxError(f"MODE={name} is not a kind of Redshift; allowed: {', '.join(MODES)}.")


@contextlib.contextmanager
def _state_folder(folder: Path) -> Iterator[None]:
    """Create the state folder, and lock it for this process.

    Raises:
        SandboxError: the folder cannot be written to, or another demo uses it.
    """
    lock = folder / "demo.lock"
    try:
        folder.mkdir(exist_ok=True)
        handle = lock.open("a")
    except OSError as error:
        raise SandboxError(
            f"The demo keeps its state in {folder.resolve()}, which cannot be written: {error.strerror}."
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SandboxError(f"A demo is already running in {Path.cwd()}; stop it with Ctrl-C first.") from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _demo(once: bool, mode: Mode, as_json: bool) -> int:
    host = os.environ.get("UI_HOST") or "127.0.0.1"
    port = 0 if once else free_port(host, os.environ.get("UI_PORT") or "3000")
    with console.status("Starting PostgreSQL, with a simulated Redshift cluster and the target database"):
        sandbox = Sandbox(STATE / "sandbox", mode)
        sandbox.start()
    try:
        workload = sandbox.workload()
        with console.status("Generating seven days of queries, scans, vacuums and alerts in the simulated cluster"):
            workload.backfill(datetime.now(UTC), queries=2400)
            workload.add_problems(datetime.now(UTC))
            workload.advance(datetime.now(UTC))
            workload.fill_other_views(datetime.now(UTC))  # for jobs that a user adds
        # The demo ignores variables of another Redshift or PostgreSQL.
        for name in [n for n in os.environ if n.startswith(("REDSHIFT_", "POSTGRES_", "CLUSTERS"))]:
            del os.environ[name]
        # A short default interval shows the schedule at work, and the optional jobs show all findings.
        jobs = ",".join(
            spec.sync_job_id for spec in all_specs() if mode == "serverless" or spec is not SERVERLESS_USAGE
        )
        os.environ.update({"SYNC_INTERVAL": "60", "SYNC_JOBS": jobs, **os.environ, **sandbox.environment()})
        settings = Settings.load()
        os.environ.update(settings.environment())
        os.environ.pop("DAGSTER_HOME", None)  # the demo has its own Dagster instance
        prepare_home(DAGSTER_FOLDER)
        variables = {**sandbox.environment(), **{name: os.environ[name] for name in _SHOWN}}
        write_private(ENV_FILE, "".join(f"{name}={value}\n" for name, value in variables.items()))
        succeeded = _first_run(as_json)
        if succeeded:
            with console.status("Checking the cluster for problems"):
                show_health(sandbox, settings, HEALTH_PAGE, console)
        if once:
            return 0 if succeeded else 1
        dagster = dagster_processes(host, port, STATE / "logs", _report, [_Postgres(sandbox.server)])
        with _activity(workload), contextlib.ExitStack() as stack:
            with console.status("Starting Dagster's webserver and daemon"):
                keep = stack.enter_context(dagster)
            _report(_where_to_look(f"http://{host}:{port}", settings.sync_interval))
            try:
                keep()
            finally:
                with console.status("Stopping Dagster"):
                    stack.close()
    finally:
        with console.status("Stopping the sandbox"), uninterrupted():
            sandbox.stop()


def _where_to_look(url: str, interval: int) -> str:
    """Return the pages that have something to show at once, and how to go on."""
    page = [f"  health page:  {HEALTH_PAGE.resolve().as_uri()} - findings with plots"] if HEALTH_PAGE.exists() else []
    lines = [
        f"\nDagster UI: {url} - whether all is well, with links to all tables",
        f"  one table:    {url}/assets/quper/query_history - its checks, columns and plots",
        f"  lineage:      {url}/asset-groups - from Redshift's views to the tables",
        f"  findings:     {url}/assets/quper/health_findings - problems of the simulated cluster",
        *page,
        f"A sync runs every {interval} s; the simulated cluster has new queries every {ACTIVITY_SECONDS} s.",
        f"From another terminal: {_command()} --env-file {ENV_FILE} status",
        "Ctrl-C stops everything.",
    ]
    return "\n".join(lines)


def _command() -> str:
    """Return what a user of this folder types for `qupersync`: its path, unless a shell finds it."""
    return "qupersync" if shutil.which("qupersync") else os.path.relpath(Path(sys.executable).with_name("qupersync"))


def _first_run(as_json: bool) -> bool:
    """Run `qupersync sync` as a process that ends with this one; return whether all jobs succeeded."""
    # Its settings are in the environment; the file .env of this folder is not the demo's.
    options = ["--env-file", str(ENV_FILE)], ["sync"], ["--json"] if as_json else []
    command = [sys.executable, "-m", "qupersync_assets.cli", *chain(*options)]
    run = ProcessGroup("first run", command, Path(), None)
    try:
        while (code := run.poll()) is None:
            time.sleep(0.1)
    finally:
        run.terminate()
        run.wait(STOP_SECONDS)
    return code == 0


class _Postgres:
    """The sandbox's PostgreSQL as a supervised service. The gateway runs in this process."""

    name = "PostgreSQL"

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def start(self) -> None:
        with uninterrupted():
            self._server.restart()

    def ended(self) -> str | None:
        return how_ended(self._server.poll(), self._server.log)

    def failed(self) -> bool:
        return False  # it has been running before


def _report(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False, highlight=False)


@contextlib.contextmanager
def _activity(workload: Workload) -> Iterator[None]:
    """Add activity in a thread, so that each sync has new rows."""
    stopping = threading.Event()

    def advance() -> None:
        while not stopping.wait(ACTIVITY_SECONDS):
            with contextlib.suppress(psycopg2.Error):  # PostgreSQL may be restarting
                workload.advance(datetime.now(UTC))

    thread = threading.Thread(target=advance, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(ACTIVITY_SECONDS)  # a thread that still waits ends with PostgreSQL


if __name__ == "__main__":
    sys.exit(main())
