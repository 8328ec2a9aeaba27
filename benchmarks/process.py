"""Runs a pipeline as a process, and measures its time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

_SAMPLE_SECONDS = 0.1
# A process that takes longer is killed.
_MOST_SECONDS = 900.0


@dataclass
class Measured:
    """One run of a process.

    Attributes:
        seconds: duration of the whole process.
        inner_seconds: duration of its work without starting and importing, if it prints that, else None.
        cpu_seconds: CPU time of the process and of the children that it has waited for.
        peak_mb: highest resident memory of the process and its children.
        output_json: the JSON object that it prints, or prints on its last line; empty if there is none.
    """

    seconds: float
    inner_seconds: float | None
    cpu_seconds: float
    peak_mb: float
    output_json: dict[str, Any] = field(default_factory=dict)


def run(
    command: Sequence[str | Path], environment: Mapping[str, str], folder: Path, accepted: Sequence[int] = (0,)
) -> Measured:
    """Run a command in a folder to its end; `inner_seconds` of its JSON output are its own.

    Raises:
        RuntimeError: the exit code is not accepted; the text is the end of the output.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        memory, limit = _Memory(process.pid), threading.Timer(_MOST_SECONDS, process.kill)
        limit.start()
        _, status, usage = os.wait4(process.pid, 0)
        limit.cancel()
        seconds = time.monotonic() - began
        peak = memory.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
        if process.returncode not in accepted:
            errors.seek(0)
            ends = [*text.splitlines()[-20:], *errors.read().splitlines()[-60:]]
            raise RuntimeError(f"{Path(command[0]).name} ended with {process.returncode}:\n" + "\n".join(ends))
    output_json = _json(text) or _json(text.rstrip().rpartition("\n")[2])
    inner = output_json.get("inner_seconds")
    return Measured(seconds, inner, usage.ru_utime + usage.ru_stime, peak, output_json)


def family_cpu_seconds(family: Sequence[psutil.Process]) -> float:
    """Return the CPU time of processes, and of their children that have ended and were waited for."""
    total = 0.0
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def _json(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        output_json = json.loads(text)
        if isinstance(output_json, dict):
            return output_json
    return {}


class _Memory:
    """The highest memory of a process and its children, sampled ten times a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Stop sampling; return the peak in MB."""
        self._stopped.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._stopped.wait(_SAMPLE_SECONDS):
            with contextlib.suppress(psutil.Error, OSError):
                root = psutil.Process(self._pid)
                family = [root, *root.children(recursive=True)]
                together = sum(member.memory_info().rss for member in family) / 2**20
                # The process itself may have used more between two samples.
                self._peak = max(self._peak, together, _highest(self._pid))


def _highest(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0
