"""Keeps the Dagster webserver and daemon running until a signal (`make up`)."""

import contextlib
import json
import os
import shutil
import socket
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from qupersync_assets.core.environment import DAGSTER_FOLDER, EnvFileError, env_file_hint, load_env_file
from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.log_format import configure_logs, log_reporter
from qupersync_assets.core.redaction import redact
from qupersync_assets.core.signals import stop_on_signals, uninterrupted
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.serve.code_server import write_workspace
from qupersync_assets.serve.logins import REFUSED, LoginRefused, check_logins
from qupersync_assets.serve.only_service import only_service
from qupersync_assets.serve.run_server_socket import ANSWER_SECONDS, ask_for_life
from qupersync_assets.serve.supervisor import STOP_SECONDS, Command, Question, ServeError, Service, Supervisor
from qupersync_assets.settings import Settings, SettingsError

# The folder of the log files of webserver and daemon.
LOGS = Path(".qupersync/logs")
LOGGED = "qupersync_assets.serve.logged"
# At INFO a code server writes, in colours, before it has loaded QuperSync.
CODE_SERVER = ("--code-server-log-level", "warning")
RUN_SERVER_NAME, RUN_SERVER = "qupersync-runs", "qupersync_assets.run_server"
WEBSERVER = "qupersync_assets.webserver"


def dagster_file(name: str) -> Path:
    """Return the path of dagster.yaml or workspace.yaml in this folder, else of that in the package."""
    own = Path(name).resolve()
    return own if own.is_file() else Path(__file__).with_name(name).resolve()


def prepare_home(home: Path) -> None:
    """Set DAGSTER_HOME of this process and its children, with the dagster.yaml of this folder or of the package.

    A DAGSTER_HOME that the user has set takes precedence over `home`, and keeps its dagster.yaml.
    """
    user_home = os.environ.get("DAGSTER_HOME")
    home = Path(user_home or home)
    home.mkdir(parents=True, exist_ok=True)
    if not user_home or not (home / "dagster.yaml").exists():
        shutil.copyfile(dagster_file("dagster.yaml"), home / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home.resolve())


def free_port(host: str, port: str) -> int:
    """Return the port for the UI as a number.

    Raises:
        ServeError: it is not a port, or in use.
    """
    number = int(port) if port.isdecimal() else 0
    if not 0 < number < 65536:
        raise ServeError(f"UI_PORT={port!r} is not a port; allowed is a number from 1 to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            raise ServeError(
                f"Cannot listen on port {port} of {host} ({error.strerror}); choose another: PORT=<number>."
            ) from error
    return number


@contextlib.contextmanager
def dagster_processes(
    host: str, port: int, logs: Path | None, report: Callable[[str], None], others: Sequence[Service] = ()
) -> Iterator[Callable[[], NoReturn]]:
    """Start webserver and daemon; stop them, with all their descendants, at the end.

    Yields a function that supervises them, and `others`, forever; it calls `report` for each restart. Without
    `logs` they write to the output of this process.

    Raises:
        ServeError: webserver or daemon do not start.
    """
    # Dagster's commands load a file .env of their folder, which would override the environment: here is none.
    folder = Path(os.environ["DAGSTER_HOME"], "storage")
    folder.mkdir(exist_ok=True)
    workspace = dagster_file("workspace.yaml")
    commands: list[Command] = []

    def start(name: str, *arguments: str | Path, question: Question | None = None) -> None:
        commands.append(Command(name, [sys.executable, "-m", LOGGED, *arguments], folder, logs, question))
        commands[-1].start()

    with tempfile.TemporaryDirectory(prefix="qupersync-") as sockets:  # whose path is short enough for a socket
        try:
            if sys.platform == "linux":  # elsewhere runs are new processes: a fork would outlive its run
                # Systems delete old files of temporary folders, but no socket that a process uses.
                code_address, of_server = Path(sockets, "code.sock"), folder / "workspace.yaml"
                question = Question(partial(ask_for_life, folder), ANSWER_SECONDS)
                if write_workspace(workspace, code_address, of_server):
                    workspace = of_server
                    start(RUN_SERVER_NAME, "-m", RUN_SERVER, code_address, question=question)
                    _wait_until(partial(_is_listening, code_address), commands)
                else:
                    start(RUN_SERVER_NAME, "-m", RUN_SERVER, question=question)
            # At INFO the daemon writes a line for each evaluation of a sensor.
            daemon = Path(sysconfig.get_path("scripts")) / "dagster-daemon"
            start("dagster-daemon", daemon, "run", "-w", workspace, "--log-level", "warning")
            options = ("-w", workspace, "-h", host, "-p", str(port), *CODE_SERVER)
            start("dagster-webserver", "-m", WEBSERVER, *options)
            if os.environ.get("ALERT_URLS"):
                # Alone it reports a dead daemon, which evaluates no sensor.
                start("qupersync-watchdog", "-m", "qupersync_assets.alerts.watchdog")
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}/server_info"
            _wait_until(partial(_is_up, address), commands)
            yield Supervisor([*commands, *others], report).run
        finally:
            with uninterrupted():  # a second Ctrl-C would leave processes running
                for command in commands:
                    command.terminate()
                for command in commands:
                    command.wait(STOP_SECONDS)


def _wait_until(condition: Callable[[], bool], commands: Sequence[Command]) -> None:
    """Wait until a condition holds; raise ServeError if one of the commands ends before."""
    while not condition():
        for command in commands:
            if how := command.ended():
                raise ServeError(f"{command.name} {how}.")
        time.sleep(0.1)


def _is_listening(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(address))
        return True
    return False


def _is_up(url: str) -> bool:
    """Return whether the webserver answers; raise ServeError if it does not check requests."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (own server)
        if answer.headers["X-Frame-Options"] is None:
            raise ServeError("The webserver does not check requests: this version of Dagster is not supported.")
        return True
    return False


def main(as_json: bool = False) -> int:
    """Serve with the settings of the environment and of `.env`; return the exit code.

    With `as_json`, stdout has a JSON object only: the address of the UI, or an error.
    """
    report: Callable[[str], None] = partial(print, flush=True, file=sys.stderr if as_json else sys.stdout)
    stop_on_signals()
    locks = contextlib.ExitStack()
    try:
        load_env_file()
        settings = Settings.load()
        configure_logs(settings.log_format)
        report = report if as_json else log_reporter(settings.log_format)
        # A dagster.yaml of the user may read variables that have defaults; and files have absolute paths here.
        os.environ.update(settings.environment())
        os.environ.setdefault("POSTGRES_PASSWORD", "")
        # The C library gives each thread an arena of its own; most threads of Dagster wait.
        os.environ.setdefault("MALLOC_ARENA_MAX", "1")
        check_logins(settings, report)  # a login that cannot work is reported once, before anything is started
        lock = locks.enter_context(only_service(PostgresResource(settings)))
        free_port(settings.ui_host, str(settings.ui_port))
        prepare_home(DAGSTER_FOLDER)
        logs = LOGS.resolve()
        with dagster_processes(settings.ui_host, settings.ui_port, logs, report, [lock]) as supervise:
            report(f"Dagster writes to {logs}/*.log")
            url = f"http://{settings.ui_host}:{settings.ui_port}"
            report(f"QuperSync is up: {url}")
            if as_json:
                print(json.dumps({"ui": url, "logs": str(logs)}), flush=True)
            supervise()
    except (EnvFileError, SettingsError, SyncError, ServeError, OSError) as error:
        text = redact(str(error.with_hint(env_file_hint()) if isinstance(error, SettingsError) else error))
        print(text, file=sys.stderr)
        if as_json:
            print(json.dumps({"error": text}))
        return REFUSED if isinstance(error, LoginRefused) else 1
    except KeyboardInterrupt:
        report("Stopped.")
    finally:
        locks.close()
    return 0
