"""Keeps the Dagster webserver and daemon running until somebody stops them (`make up`)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from dotenv import load_dotenv

from qupersync_assets.core.signals import stop_on_signals, uninterrupted
from qupersync_assets.serve.supervisor import (
    LOOK_SECONDS,
    STOP_SECONDS,
    Command,
    ServeError,
    Service,
    Supervisor,
)
from qupersync_assets.settings import Settings, SettingsError


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


@contextlib.contextmanager
def dagster_processes(
    project: Path,
    host: str,
    port: int,
    logs: Path | None,
    tell: Callable[[str], None],
    others: Sequence[Service] = (),
) -> Iterator[Callable[[], NoReturn]]:
    """Webserver and daemon, up when entered and all gone, with everything that they started, when left.

    Yields a function that keeps them running for ever, and `others`, which run already; `tell` is told when
    one is started again. ServeError if they do not come up at all.
    """
    workspace = project / "workspace.yaml"
    scripts = Path(sysconfig.get_path("scripts"))
    web: list[str | Path] = [scripts / "dagster-webserver", "-w", workspace, "-h", host, "-p", str(port)]
    daemon: list[str | Path] = [scripts / "dagster-daemon", "run", "-w", workspace]
    commands = [
        Command("dagster-daemon", daemon, project, logs),
        Command("dagster-webserver", web, project, logs),
    ]
    try:
        for command in commands:
            command.start()
        _wait_until_up(f"http://{host}:{port}/server_info", commands)
        supervisor = Supervisor([*commands, *others], tell)

        def keep() -> NoReturn:
            while True:
                supervisor.look()
                time.sleep(LOOK_SECONDS)

        yield keep
    finally:
        with uninterrupted():  # whoever presses Ctrl-C twice would leave processes behind
            for command in commands:
                command.terminate()
            for command in commands:
                command.wait(STOP_SECONDS)


def _wait_until_up(url: str, commands: Sequence[Command]) -> None:
    while True:
        for command in commands:
            if how := command.ended():
                raise ServeError(f"{command.name} {how}.")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 (http, ours)
            return
        time.sleep(0.3)


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
        with dagster_processes(Path(), settings.ui_host, settings.ui_port, None, _say) as keep:
            _say(f"QuperSync is up: http://{settings.ui_host}:{settings.ui_port}")
            keep()
    except (SettingsError, ServeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _say("Stopped.")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
