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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from dotenv import load_dotenv

from qupersync_assets.settings import Settings, SettingsError

STOP_SECONDS = 30


class ServeError(RuntimeError):
    """Dagster could not be started or did not stay up; the text is one sentence for the user."""


def prepare_home(home: Path, project: Path) -> None:
    """Make `home` the Dagster home of this process and its children, with the project's dagster.yaml."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(project / "dagster.yaml", home / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home.resolve())


def check_port(host: str, port: int) -> None:
    """Raise ServeError if the UI's port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServeError(
                f"Port {port} on {host} cannot be used ({error.strerror}); choose another with PORT=<number>."
            ) from error


@contextlib.contextmanager
def dagster_processes(
    project: Path, host: str, port: int, logs: Path | None
) -> Iterator[Callable[[], NoReturn]]:
    """Webserver and daemon, up when entered and all gone, with everything that they started, when left.

    Yields a function that waits for ever, or until one of them ends (ServeError).

    Args:
        logs: folder for their output; None leaves it on this process's own.
    """
    workspace = str(project / "workspace.yaml")
    scripts = Path(sysconfig.get_path("scripts"))
    commands = {
        "dagster-daemon": [scripts / "dagster-daemon", "run", "-w", workspace],
        "dagster-webserver": [
            *(scripts / "dagster-webserver", "-w", workspace, "-h", host, "-p", str(port)),
            "--suppress-warnings",
        ],
    }
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with _output(logs, name) as output:
                # A session of its own: Ctrl-C reaches us alone, and all of it can be stopped as one group.
                running[name] = subprocess.Popen(
                    [str(c) for c in command],
                    cwd=project,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        _wait_until_up(f"http://{host}:{port}/server_info", running, logs)

        def wait() -> NoReturn:
            while True:
                _check_running(running, logs)
                time.sleep(1)

        yield wait
    finally:
        for process in running.values():
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in running.values():
            _wait_for_group(process, deadline)


def _output(logs: Path | None, name: str) -> contextlib.AbstractContextManager[IO[bytes] | None]:
    if logs is None:
        return contextlib.nullcontext()
    logs.mkdir(parents=True, exist_ok=True)
    return (logs / f"{name}.log").open("wb")


def _check_running(running: Mapping[str, subprocess.Popen[bytes]], logs: Path | None) -> None:
    for name, process in running.items():
        if process.poll() is not None:
            where = f"; see {logs / f'{name}.log'}" if logs else ""
            raise ServeError(f"{name} ended with exit code {process.returncode}{where}.")


def _wait_until_up(url: str, running: Mapping[str, subprocess.Popen[bytes]], logs: Path | None) -> None:
    while True:
        _check_running(running, logs)
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.3)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
        return True
    return False


def _wait_for_group(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Wait until the process and all its descendants are gone; kill those that outlast the deadline."""
    killed = False
    while process.poll() is None or _signal_group(process, 0):
        late = time.monotonic() - deadline
        if late > 0 and not killed:
            killed = _signal_group(process, signal.SIGKILL)
        if late > 5:
            return  # only unreaped remains are left
        time.sleep(0.1)


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
        check_port(settings.ui_host, settings.ui_port)
        prepare_home(Path(os.environ.get("DAGSTER_HOME") or ".qupersync/dagster"), Path())
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
