"""The code server: Dagster's server of a code location, as a fork of the run server, which has imported everything.

Else webserver and daemon each start one of their own, which imports everything again.
"""

import runpy
import sys
from contextlib import suppress
from pathlib import Path

import yaml

MODULE, LOCATION_NAME = "qupersync_assets.definitions", "qupersync"
_PACKAGE = Path(__file__).parents[1]


class ImportedCode:
    """The files of all modules that are imported now, and of this package."""

    def __init__(self) -> None:
        self._modules = {file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
        self._found = self._times()

    def has_changed(self) -> bool:
        """Return whether a file has changed, or the package has a new one or has lost one."""
        return self._times() != self._found

    def _times(self) -> dict[str, int]:
        found = {}
        for name in {*self._modules, *map(str, _PACKAGE.rglob("*.py"))}:
            with suppress(OSError):
                found[name] = Path(name).stat().st_mtime_ns
        return found


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
