"""The code server: Dagster's server of a code location, as a fork of the run server, which has imported everything.

Else webserver and daemon each start one of their own, which imports everything again.
"""

import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import yaml

MODULE, LOCATION_NAME = "qupersync_assets.definitions", "qupersync"
# Seconds between two questions whether it lives, and without an answer before it is killed.
ASK_SECONDS, SILENT_SECONDS = 30.0, 60.0
_PACKAGE = Path(__file__).parents[1]


class ImportedCode:
    """The files of all modules that are imported now, and of this package."""

    def __init__(self) -> None:
        files = {file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
        # One text: to look at many would write to the memory of each, which forks share.
        self._files = "\n".join(files)
        self._found = self._digest()

    def has_changed(self) -> bool:
        """Return whether a file has changed, or the package has a new one or has lost one."""
        return self._digest() != self._found

    def _digest(self) -> int:
        own = (f"{folder}/{name}" for folder, _, names in os.walk(_PACKAGE) for name in names if name.endswith(".py"))
        times = set()
        for file in {*self._files.split("\n"), *own}:
            with suppress(OSError):
                times.add((file, Path(file).stat().st_mtime_ns))
        return hash(frozenset(times))


class CodeServer:
    """The code server at a Unix socket as a child of this process: there is always one, and one that hangs is killed.

    Args:
        address: the path of the socket.
        fork: executes a function in a fork of this process, and returns its number.
        earlier: the number of a code server of earlier code, which is killed.
    """

    def __init__(self, address: str, fork: Callable[[Callable[[], None]], int], earlier: int | None = None) -> None:
        import dagster._grpc.client  # noqa: F401 (for all forks)

        self._address = address
        self._fork = fork
        self.pid = earlier
        self._question: int | None = None  # the fork that asks
        self._asked_at = 0.0
        self._kill(earlier)

    def look(self) -> None:
        """Start the code server if there is none, ask it whether it lives if it is time, kill it if it hangs."""
        now = time.monotonic()
        if self.pid is None:
            self.pid = self._fork(partial(serve_code, self._address))
            self._asked_at = now
        elif self._question is None and now - self._asked_at > ASK_SECONDS:
            self._question = self._fork(partial(_ask, self._address))
            self._asked_at = now
        elif self._question is not None and now - self._asked_at > SILENT_SECONDS:
            text = f"The code server has not answered for {SILENT_SECONDS:.0f} s: it is killed and started again."
            print(text, file=sys.stderr, flush=True)
            self._kill(self._question)
            self._kill(self.pid)

    def reaped(self, pid: int) -> None:
        """Note that a child of this process has ended."""
        if pid == self.pid:
            self.pid = None
        elif pid == self._question:
            self._question = None

    def _kill(self, pid: int | None) -> None:
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.reaped(pid)


def _ask(address: str) -> None:
    """Return as soon as the code server has answered."""
    from dagster import DagsterError
    from dagster._grpc.client import DagsterGrpcClient

    while True:
        with suppress(DagsterError):
            DagsterGrpcClient(socket=address).ping("")
            return
        time.sleep(1)


def serve_code(address: str) -> None:
    """Serve the definitions of QuperSync at a Unix socket until a signal."""
    # https://docs.dagster.io/api/clis/cli#dagster-api-grpc: errors of the code are shown in the UI.
    options = ["--socket", address, "--module-name", MODULE, "--attribute", "defs", "--lazy-load-user-code"]
    options += ["--use-python-environment-entry-point", "--log-level", "warning"]
    sys.argv = ["dagster", "api", "grpc", *options]
    with suppress(SystemExit):
        runpy.run_module("dagster", run_name="__main__", alter_sys=True)


def write_workspace(workspace: Path, address: Path, file: Path) -> bool:
    """Write a workspace to `file` whose only code location is the code server at a Unix socket.

    Returns:
        False, and writes nothing, if `workspace` names other code than that of QuperSync: Dagster loads it then.
    """
    content = yaml.safe_load(workspace.read_bytes())
    own = [{"python_module": {"module_name": MODULE, "attribute": "defs", "location_name": LOCATION_NAME}}]
    if content == {"load_from": own}:
        server = {"grpc_server": {"socket": str(address), "location_name": LOCATION_NAME}}
        file.write_text(yaml.safe_dump({"load_from": [server]}), "utf-8")
        return True
    return False
