"""`make demo`: the sandbox, one run of all sync jobs with a summary, then the Dagster UI with its daemon."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
from rich.console import Console

from qupersync_assets.sandbox import Sandbox, SandboxError
from qupersync_assets.sandbox.dialect import MODES, Mode
from qupersync_assets.sandbox.first_run import first_run
from qupersync_assets.sandbox.server import PostgresServer
from qupersync_assets.sandbox.workload import Workload
from qupersync_assets.serve import dagster_processes, free_port, prepare_home, stop_on_signals
from qupersync_assets.settings import Settings, SettingsError
from qupersync_assets.supervisor import ServeError, how_ended, uninterrupted

STATE = Path(".qupersync")
NEWS_SECONDS = 5
# A pipe has no width of its own.
console = Console() if sys.stdout.isatty() else Console(width=120)


def main() -> int:
    """Run the demo; return the exit code: 0, or 1 if a job failed or the demo could not run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="exit after the summary")
    parser.add_argument("--mode", default=MODES[0], help=f"the kind of Redshift to play: {', '.join(MODES)}")
    options = parser.parse_args()
    once = options.once
    stop_on_signals()
    try:
        mode = _mode(options.mode)
        with _state_folder(STATE):
            return _demo(once, mode)
    except (SandboxError, ServeError, SettingsError) as error:
        console.print(f"[red]{error}", soft_wrap=True, highlight=False)
        return 1
    except psycopg2.OperationalError:  # only before it is looked after
        log = STATE / "sandbox" / "postgres.log"
        console.print(f"[red]The sandbox's PostgreSQL went away; see {log}.", soft_wrap=True, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 0 if not once else 130


def _mode(name: str) -> Mode:
    """The mode of that name; SandboxError if there is none."""
    for mode in MODES:
        if name == mode:
            return mode
    raise SandboxError(f"MODE={name} is no kind of Redshift; allowed are {', '.join(MODES)}.")


@contextlib.contextmanager
def _state_folder(folder: Path) -> Iterator[None]:
    """The state folder, for this process alone.

    Raises:
        SandboxError: it cannot be written to, or another demo uses it.
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
            raise SandboxError(
                f"A demo is running in {Path.cwd()} already; stop it with Ctrl-C first."
            ) from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _demo(once: bool, mode: Mode) -> int:
    host = os.environ.get("UI_HOST") or "127.0.0.1"
    port = 0 if once else free_port(host, os.environ.get("UI_PORT") or "3000")
    with console.status("Starting the sandbox: PostgreSQL, playing Redshift and the target"):
        sandbox = Sandbox(STATE / "sandbox", mode)
        sandbox.start()
    try:
        workload = sandbox.workload()
        with console.status("Making up seven days of queries, scans, vacuums and alerts"):
            workload.backfill(datetime.now(UTC))
            workload.advance(datetime.now(UTC))
        # Nothing of another Redshift or PostgreSQL counts here.
        for name in [n for n in os.environ if n.startswith(("REDSHIFT_", "POSTGRES_", "CLUSTERS"))]:
            del os.environ[name]
        # A short interval unless another is asked for, so that one sees the schedule at work.
        os.environ.update({"SYNC_INTERVAL": "60", **os.environ, **sandbox.environment()})
        settings = Settings.load()
        os.environ.update(settings.environment())
        os.environ.pop("DAGSTER_HOME", None)  # the demo is no business of an instance elsewhere
        prepare_home(STATE / "dagster", Path())
        succeeded = first_run(sandbox, console, STATE / "logs")
        if once:
            return 0 if succeeded else 1
        dagster = dagster_processes(Path(), host, port, STATE / "logs", _tell, [_Postgres(sandbox.server)])
        with _news(workload), dagster as keep:
            console.print(
                f"\nDagster UI: http://{host}:{port} - a sync every {settings.sync_interval} s, "
                f"news from the sandbox every {NEWS_SECONDS} s. Ctrl-C stops everything.",
                soft_wrap=True,
            )
            keep()
    finally:
        with console.status("Stopping the sandbox"), uninterrupted():
            sandbox.stop()


class _Postgres:
    """The sandbox's PostgreSQL as a service to keep running; the gateway before it lives in this process."""

    name = "PostgreSQL"

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def start(self) -> None:
        with uninterrupted():
            self._server.restart()

    def ended(self) -> str | None:
        return how_ended(self._server.poll(), self._server.log)

    def failed(self) -> bool:
        return False  # it was up


def _tell(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False, highlight=False)


@contextlib.contextmanager
def _news(workload: Workload) -> Iterator[None]:
    """Let the workload go on in a thread, so that each sync has something to do."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(NEWS_SECONDS):
            with contextlib.suppress(psycopg2.Error):  # no news while PostgreSQL is away
                workload.advance(datetime.now(UTC))

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(NEWS_SECONDS)  # one that waits longer ends with PostgreSQL


if __name__ == "__main__":
    sys.exit(main())
