"""The run server: a process that has imported everything, and forks each run. `python -m qupersync_assets.run_server`.

It has one thread and no connection to a database: a fork inherits nothing that it must not use. A run opens the
instance itself, and executes only what the instance has as a run that is starting. Runs end with their server, so that
a run that the server does not know is dead. With the path of a socket as argument it also forks the code server.

It looks at the files that it has imported, and at those of this package; if one has changed, it replaces itself, and
keeps its socket with the requests, and its runs. Its code server starts again.
"""

import fcntl
import importlib
import json
import logging
import os
import select
import signal
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import dagster as dg

from qupersync_assets.core.forks import become_run
from qupersync_assets.core.signals import STOP_SIGNALS, stop_on_signals
from qupersync_assets.postgres.kept_connections import close_kept
from qupersync_assets.serve.code_server import CodeServer, ImportedCode
from qupersync_assets.serve.dagster_storage import share_with_forks
from qupersync_assets.serve.run_server_socket import LOCK_NAME, is_own_user, listen, receive, send

# Imported at the start, and by each run if that fails, so that the run reports what is wrong.
PRELOADED = "qupersync_assets.forkserver_preload"
# Seconds after which a run that is asked to stop is killed: less than cancel_timeout_seconds of dagster.yaml.
KILL_SECONDS = 45.0
# Younger runs use the processors, and wait for each other; older ones wait for a database, and hold back no other.
YOUNG_SECONDS = 10.0
# Seconds between two looks at the files, and before a code server that has ended is started again.
LOOK_SECONDS = 5.0
_REQUEST_SECONDS = 5.0
_log = logging.getLogger(__name__)
_REMEMBERED = 100
# What a server that replaces itself leaves to its successor.
_STATE = "QUPERSYNC_RUN_SERVER"


class RunServer:
    """The runs of an instance.

    Args:
        listener: the socket for requests.
        lock: the open file whose lock only one server has.
        state: what `_replace` has left, else empty.
        code_address: the path of the code server's socket; without one there is no code server.
    """

    def __init__(self, listener: socket.socket, lock: int, state: dict[str, Any], code_address: str) -> None:
        self._listener = listener
        self._lock = lock
        self._runs: dict[int, str] = {int(pid): run_id for pid, run_id in state.get("runs", {}).items()}
        self._started: dict[str, float] = state.get("started", {})
        self._waiting: deque[str] = deque(state.get("waiting", []))
        self._ended: dict[str, str] = state.get("ended", {})
        self._kill_at: dict[str, float] = {}
        self._stopping = False
        self._is_successor = bool(state)
        self._processors = len(os.sched_getaffinity(0))
        self._wakeup, wakeup = socket.socketpair()
        for end in (self._wakeup, wakeup):
            end.setblocking(False)
        self._signalled = wakeup
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        self._is_broken = not _preload()
        self._code = ImportedCode()
        self._look_at = 0.0
        earlier = state.get("code_server")
        self._code_server = CodeServer(code_address, self._fork, earlier) if code_address else None

    def serve(self) -> None:
        """Answer requests until a signal, and then wait for the end of all runs."""
        while self._runs or not self._stopping:
            if self._stopping:
                self._listener.close()  # the launcher finds no server any more
            listening = [] if self._stopping else [self._listener]
            busy = self._waiting or self._kill_at
            idle = LOOK_SECONDS if self._code_server else None
            ready, _, _ = select.select([*listening, self._wakeup], [], [], 0.2 if busy else idle)
            with suppress(BlockingIOError):
                self._wakeup.recv(4096)
            self._reap()
            if self._code_server and not self._stopping and time.monotonic() > self._look_at:
                self._look_at = time.monotonic() + LOOK_SECONDS
                if self._code.has_changed():
                    self._replace()
                self._code_server.look()
            if self._listener in ready and not self._stopping:
                if not self._is_successor and (self._is_broken or self._code.has_changed()):
                    self._replace()
                self._is_successor = False  # has answered the request that made it one, even with broken code
                self._answer()
            self._start_waiting()
            self._kill_late()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _answer(self) -> None:
        with suppress(OSError, ValueError):  # a client that has ended
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(_REQUEST_SECONDS)
                if not is_own_user(connection):
                    return
                request = receive(connection)
                run_id = str(uuid.UUID(request["run_id"]))
                send(connection, self._execute(request["action"], run_id))

    def _execute(self, action: str, run_id: str) -> dict[str, Any]:
        is_known = run_id in self._waiting or run_id in self._runs.values()
        if action == "launch":
            if not is_known and run_id not in self._ended:
                self._waiting.append(run_id)
        elif action == "terminate" and is_known:
            self._terminate(run_id)
        how = None if action != "status" or is_known else self._ended.get(run_id, "ended with its run server.")
        return {"found": is_known, "ended": how}

    def _terminate(self, run_id: str) -> None:
        if run_id in self._waiting:
            self._waiting.remove(run_id)
            self._report(run_id, "was not started.")
        for pid, running in self._runs.items():
            if running == run_id:
                os.kill(pid, signal.SIGTERM)
                self._kill_at.setdefault(run_id, time.monotonic() + KILL_SECONDS)

    def _start_waiting(self) -> None:
        if self._stopping:
            for run_id in self._waiting:
                self._report(run_id, "was not started, because the service was stopped.")
            self._waiting.clear()
        while self._waiting:
            since = time.monotonic() - YOUNG_SECONDS
            if sum(self._started.get(run_id, 0.0) > since for run_id in self._runs.values()) >= self._processors:
                return
            run_id = self._waiting.popleft()
            self._started[run_id] = time.monotonic()
            self._runs[self._fork(partial(_execute, run_id))] = run_id

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if self._code_server:
                    self._code_server.reaped(pid)
                run_id = self._runs.pop(pid, None)
                if run_id is None:
                    continue  # a report, or of the code server
                code = os.waitstatus_to_exitcode(status)
                how = _how_ended(code)
                self._started.pop(run_id, None)
                self._kill_at.pop(run_id, None)
                self._ended[run_id] = how
                while len(self._ended) > _REMEMBERED:
                    del self._ended[next(iter(self._ended))]
                if code != 0:
                    self._report(run_id, how)

    def _kill_late(self) -> None:
        for pid, run_id in self._runs.items():
            if time.monotonic() > self._kill_at.get(run_id, float("inf")):
                os.kill(pid, signal.SIGKILL)
                del self._kill_at[run_id]

    def _report(self, run_id: str, how: str) -> None:
        """Report the end of a run that may not have done it itself, in a process that may open the instance."""
        self._fork(partial(_report, run_id, how))

    def _fork(self, execute: Callable[[], None]) -> int:
        """Execute a function in a fork of this process; return its number."""
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            return pid
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            stop_on_signals()
            for end in (self._listener, self._wakeup, self._signalled):
                end.close()
            os.close(self._lock)
            become_run(parent)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            execute()
            code = 0
        except BaseException as error:  # there is no other place to show it
            _log.error("A process of the run server failed: %s: %s", type(error).__name__, error)
        finally:
            with suppress(Exception):
                sys.stdout.flush()
            os._exit(code)

    def _replace(self) -> NoReturn:
        """Execute this command again, with its imports, in this process: its children stay its children."""
        state = {
            "listener": self._listener.fileno(),
            "lock": self._lock,
            "runs": self._runs,
            "started": self._started,
            "waiting": list(self._waiting),
            "ended": self._ended,
            "code_server": self._code_server.pid if self._code_server else None,
        }
        for handle in (self._listener.fileno(), self._lock):
            os.set_inheritable(handle, True)
        os.environ[_STATE] = json.dumps(state)
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        _log.warning("The code has changed: the run server imports it again.")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (our own command)


def _execute(run_id: str) -> None:
    from qupersync_assets.defs.dagster_internals import execute_run

    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
        if run is not None and run.status == dg.DagsterRunStatus.STARTING:
            execute_run(instance, run)


def _report(run_id: str, how: str) -> None:
    from qupersync_assets.defs.run_health import report_crash

    with dg.DagsterInstance.get() as instance:
        report_crash(instance, run_id, how)


def _how_ended(code: int) -> str:
    if code < 0:
        return f"was terminated by signal {-code} ({signal.Signals(-code).name})."
    return f"ended with exit code {code}."


def _preload() -> bool:
    """Import the code, and prepare the storage of the instance; return whether the code could be imported."""
    try:
        importlib.import_module(PRELOADED)
    except Exception as error:
        _log.error("The code cannot be imported: %s: %s", type(error).__name__, error)
        return False
    share_with_forks()
    with suppress(Exception), dg.DagsterInstance.get() as instance:  # PostgreSQL may be away: each run tries again
        instance.get_run_by_id("")
        instance.get_asset_records([dg.AssetKey("")])
    close_kept()
    return True


def main() -> int:
    """Serve the instance of DAGSTER_HOME; return the exit code."""
    folder = Path(os.environ["DAGSTER_HOME"], "storage")
    folder.mkdir(exist_ok=True)
    if state := json.loads(os.environ.pop(_STATE, "{}")):
        lock, listener = int(state["lock"]), socket.socket(fileno=state["listener"])
        for handle in (lock, listener.fileno()):
            os.set_inheritable(handle, False)
    else:
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"A run server is already running for {folder.parent}.", file=sys.stderr)
            return 1
        listener = listen(folder)
    RunServer(listener, lock, state, *sys.argv[1:2] or [""]).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
