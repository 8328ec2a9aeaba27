"""Runs the Dagster webserver and daemon side by side until one ends or somebody stops them (`make up`)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dotenv import load_dotenv

from qupersync_assets.settings import Settings, SettingsError

STOP_SECONDS = 30


class ServeError(RuntimeError):
    """Dagster could not be started or did not stay up; the text is one sentence for the user."""


def prepare_home(home: Path, project: Path) -> None:
    """Make `home` the Dagster home of this process and its children, with the project's dagster.yaml; a home
    that the user has named in DAGSTER_HOME goes before, and keeps the dagster.yaml that it has."""
    named = os.environ.get("DAGSTER_HOME")
    home = Path(named) if named else home
    home.mkdir(parents=True, exist_ok=True)
    if not named or not (home / "dagster.yaml").exists():
        shutil.copyfile(project / "dagster.yaml", home / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home.resolve())


def free_port(host: str, port: str) -> int:
    """The port for the UI, as a number; ServeError if it is none or cannot be listened on."""
    number = int(port) if port.isdecimal() else 0
    if not 0 < number < 65536:
        raise ServeError(f"UI_PORT={port!r} is no port; allowed is a number from 1 to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            raise ServeError(
                f"Port {port} on {host} cannot be used ({error.strerror}); choose another with PORT=<number>."
            ) from error
    return number


class ProcessGroup:
    """A command in a session of its own: Ctrl-C reaches us alone, and all of it can be stopped as one."""

    def __init__(self, name: str, command: Sequence[str | Path], cwd: Path, logs: Path | None) -> None:
        """
        Args:
            logs: folder for the output; None leaves it on this process's own.
        """
        self.name = name
        self.log = logs / f"{name}.log" if logs else None
        if logs:
            logs.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") if self.log else contextlib.nullcontext() as output:
            self._process = subprocess.Popen(
                [str(c) for c in command], cwd=cwd, stdout=output, stderr=output, start_new_session=True
            )

    def poll(self) -> int | None:
        """The exit code of the command, None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raise ServeError if the command has ended."""
        if self.poll() is not None:
            where = f"; see {self.log}" if self.log else ""
            raise ServeError(f"{self.name} ended with exit code {self.poll()}{where}.")

    def terminate(self) -> None:
        """Ask the command and all its descendants to end."""
        self._signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait until the command and all its descendants are gone; kill those that take longer."""
        deadline = time.monotonic() + seconds
        killed = False
        while self.poll() is None or self._signal(0):
            late = time.monotonic() - deadline
            if late > 0 and not killed:
                killed = self._signal(signal.SIGKILL)
            if late > 5:
                return  # what is left has ended, and nobody reaps it
            time.sleep(0.05)

    def _signal(self, number: int) -> bool:
        """Whether there was anybody to receive it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
            return True
        return False


@contextlib.contextmanager
def dagster_processes(
    project: Path, host: str, port: int, logs: Path | None
) -> Iterator[Callable[[], NoReturn]]:
    """Webserver and daemon, up when entered and all gone, with everything that they started, when left.

    Yields a function that waits for ever, or until one of them ends (ServeError).
    """
    workspace = project / "workspace.yaml"
    scripts = Path(sysconfig.get_path("scripts"))
    webserver: list[str | Path] = [
        scripts / "dagster-webserver",
        "-w",
        workspace,
        "-h",
        host,
        "-p",
        str(port),
    ]
    running: list[ProcessGroup] = []
    try:
        running.append(
            ProcessGroup(
                "dagster-daemon", [scripts / "dagster-daemon", "run", "-w", workspace], project, logs
            )
        )
        running.append(ProcessGroup("dagster-webserver", webserver, project, logs))
        _wait_until_up(f"http://{host}:{port}/server_info", running)

        def wait() -> NoReturn:
            while True:
                for group in running:
                    group.check()
                time.sleep(1)

        yield wait
    finally:
        for group in running:
            group.terminate()
        for group in running:
            group.wait(STOP_SECONDS)


def _wait_until_up(url: str, running: Sequence[ProcessGroup]) -> None:
    while True:
        for group in running:
            group.check()
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 (http, ours)
            return
        time.sleep(0.3)


def stop_on_signals() -> None:
    """Let SIGTERM end this process as Ctrl-C does, through its `finally` blocks. Ctrl-C itself is named too,
    because a shell has it ignored by what it starts in the background."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def main() -> int:
    """Serve the settings of the environment and of `.env`; return the exit code."""
    stop_on_signals()
    load_dotenv(".env")
    try:
        settings = Settings.load()
        # The instance's dagster.yaml reads some of them: defaults have to be there too.
        os.environ.update(settings.environment())
        os.environ.setdefault("POSTGRES_PASSWORD", "")
        free_port(settings.ui_host, str(settings.ui_port))
        prepare_home(Path(".qupersync/dagster"), Path())
        with dagster_processes(Path(), settings.ui_host, settings.ui_port, None) as wait:
            print(f"QuperSync is up: http://{settings.ui_host}:{settings.ui_port}", flush=True)
            wait()
    except (SettingsError, ServeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
