"""Measures the service of `make up` while it has nothing to do: CPU seconds a minute, and its memory."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.contenders import PROGRAM
from benchmarks.process import family_cpu_seconds, run
from benchmarks.rounds import FEW, Log, Results
from benchmarks.world import World

TITLE, TASK = "service", "one minute without work"
LIMIT_CPU, LIMIT_MB = 2.0, 450.0
_START_SECONDS, _SETTLE_SECONDS, _SECONDS = 120.0, 60.0, 60.0


def measure(world: World, rows: int, rounds: int, log: Log) -> Results:
    """Measure minutes of one service for one cluster; its interval is a day, and all jobs have been synced."""
    world.history(3000)
    run([PROGRAM, "sync", "--quiet"], world.environment, world.folder)
    folder = world.folder / "service"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    variables = {"SYNC_INTERVAL": "86400", "UI_HOST": "127.0.0.1", "UI_PORT": port}
    command = [sys.executable, "-m", "qupersync_assets.serve"]
    results = Results(log)
    with (folder / "log").open("w") as output:
        service = subprocess.Popen(
            command, env=os.environ | world.environment | variables, cwd=folder, stdout=output, stderr=output
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/server_info", service, folder / "log")
        time.sleep(_SETTLE_SECONDS)
        for _ in range(min(rounds, FEW)):
            world.checkpoint()
            took = -_cpu_seconds(service.pid), -world.cpu_seconds()
            time.sleep(_SECONDS)
            own, postgres = took[0] + _cpu_seconds(service.pid), took[1] + world.cpu_seconds()
            values = {"CPU s": own + postgres, "CPU s of PostgreSQL": postgres, "Pss MB": _pss_mb(service.pid)}
            results.add(TITLE, TASK, values | {"processes": float(len(_family(service.pid)))})
    finally:
        service.terminate()
        service.wait()
    return results


def _wait_for(url: str, service: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and service.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.5)
    raise RuntimeError(f"The service has not started: {log.read_text()[-2000:]}")


def _family(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _cpu_seconds(pid: int) -> float:
    return family_cpu_seconds(_family(pid))


def _pss_mb(pid: int) -> float:
    """Return the memory of a process and its descendants; what they share counts once."""
    kilobytes = 0
    for process in _family(pid):
        with suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{process.pid}/smaps_rollup").read_text(), re.MULTILINE)
            kilobytes += int(found[1]) if found else 0
    return kilobytes / 1024
