"""The code server is a fork of the run server: it is replaced when it ends and when the code changes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import ListRepositoriesResponse
from dagster_shared.serdes import deserialize_value

from qupersync_assets.serve.code_server import write_workspace
from qupersync_assets_tests.conftest import PROJECT
from qupersync_assets_tests.support.demo_process import has_ended, until

CODE = """
import dagster as dg

@dg.repository(name="first")
def defs():
    return []
"""
SERVER = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from qupersync_assets import run_server
from qupersync_assets.serve import code_server
run_server.PRELOADED = code_server.MODULE = "some_code"
run_server.LOOK_SECONDS = 0.5
code_server.ASK_SECONDS, code_server.SILENT_SECONDS = 1.0, 3.0
sys.exit(run_server.main())
"""


@dataclass
class Running:
    """A run server with a code server."""

    folder: Path
    address: Path
    process: subprocess.Popen[str]
    log: Path

    def names(self) -> list[str]:
        """The names of the repositories in the code; empty while no server answers."""
        with suppress(DagsterUserCodeUnreachableError):
            answer = deserialize_value(DagsterGrpcClient(socket=str(self.address)).list_repositories())
            assert isinstance(answer, ListRepositoriesResponse), answer
            return [symbol.repository_name for symbol in answer.repository_symbols]
        return []

    def code_server(self) -> psutil.Process:
        return psutil.Process(self.process.pid).children()[0]  # the oldest; another one asks it


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "some_code.py").write_text(CODE)
    (tmp_path / "dagster.yaml").write_text("telemetry: { enabled: false }")
    with tempfile.TemporaryDirectory() as sockets:
        address = Path(sockets, "code.sock")
        command = [sys.executable, "-c", SERVER, str(tmp_path), str(address)]
        environment = {**os.environ, "DAGSTER_HOME": str(tmp_path)}
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True)
        try:
            yield Running(tmp_path, address, process, tmp_path / "log")
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_it_follows_the_code_and_is_replaced_when_it_ends(running: Running) -> None:
    until(lambda: running.names() == ["first"], 60)
    killed = running.code_server()
    killed.kill()
    until(lambda: running.names() == ["first"] and running.code_server() != killed, 30)
    (running.folder / "some_code.py").write_text(CODE.replace("first", "second"))
    until(lambda: running.names() == ["second"], 60)
    assert "not answered" not in running.log.read_text()  # it was asked several times


def test_one_that_hangs_is_killed_and_replaced(running: Running) -> None:
    until(lambda: running.names() == ["first"], 60)
    stopped = running.code_server()
    stopped.suspend()
    until(lambda: "The code server has not answered for 3 s" in running.log.read_text(), 30)
    until(lambda: has_ended(stopped), 10)
    until(lambda: running.names() == ["first"] and running.code_server() != stopped, 30)


def test_dagster_loads_a_workspace_with_other_code_itself(tmp_path: Path) -> None:
    default, written = PROJECT / "workspace.yaml", tmp_path / "written.yaml"
    assert write_workspace(default, Path("/s/code.sock"), written)
    server = {"socket": "/s/code.sock", "location_name": "qupersync"}
    assert yaml.safe_load(written.read_text()) == {"load_from": [{"grpc_server": server}]}
    own = tmp_path / "workspace.yaml"
    own.write_text(default.read_text() + "  - python_file: own.py\n")
    written.unlink()
    assert not write_workspace(own, Path("/s/code.sock"), written) and not written.exists()
