"""Restarts of services and their pauses, descendants of earlier processes, and delayed signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from qupersync_assets.core import signals
from qupersync_assets.core.signals import uninterrupted
from qupersync_assets.serve import supervisor
from qupersync_assets.serve.supervisor import Command, ServeError, Supervisor


class Clock:
    """time.monotonic of the supervisor, which a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("qupersync_assets.serve.supervisor.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Service:
    """A service whose end and whose failing starts a test sets."""

    name = "thing"

    def __init__(self) -> None:
        self.starts = 0
        self.end: str | None = None
        self.has_failed = False
        self.failing = 0

    def start(self) -> None:
        if self.failing:
            self.failing -= 1
            raise OSError("no memory")
        self.starts += 1
        self.end = None

    def ended(self) -> str | None:
        return self.end

    def failed(self) -> bool:
        return self.has_failed


def end_and_wait(service: Service, clock: Clock, watcher: Supervisor, lines: list[str]) -> int:
    """End a service now; return the pause before its restart."""
    starts = service.starts
    service.end = "was killed by SIGKILL"
    watcher.poll()
    pause = int(re.findall(r"again in (\d+) s\.$", lines[-1])[0])
    clock.now += pause - 0.1
    watcher.poll()
    assert service.starts == starts
    clock.now += 0.2
    watcher.poll()
    assert service.starts == starts + 1
    return pause


def test_pauses_grow_to_a_minute_and_are_reset_after_a_healthy_time(clock: Clock) -> None:
    service, lines = Service(), list[str]()
    watcher = Supervisor([service], lines.append)
    pauses = [end_and_wait(service, clock, watcher, lines) for _ in range(9)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    clock.now += supervisor.HEALTHY_SECONDS - 10
    assert end_and_wait(service, clock, watcher, lines) == 60
    clock.now += supervisor.HEALTHY_SECONDS
    assert end_and_wait(service, clock, watcher, lines) == 1
    assert len(lines) == 11
    assert re.fullmatch(r"[-\d]{10} [:\d]{8} UTC thing was killed by SIGKILL; it is started again in 1 s\.", lines[0])


def test_failed_start_is_retried(clock: Clock) -> None:
    service, lines = Service(), list[str]()
    watcher = Supervisor([service], lines.append)
    service.end, service.failing = "ended with exit code 1", 2
    clock.now += supervisor.FIRST_SECONDS
    service.has_failed = True
    for _ in range(20):
        watcher.poll()
        clock.now += 1
    assert service.starts == 1
    assert [line.partition("thing ")[2] for line in lines] == [
        "ended with exit code 1; it is started again in 1 s.",
        "could not be started (no memory); it is started again in 2 s.",
        "could not be started (no memory); it is started again in 4 s.",
    ]


def test_failure_soon_after_the_first_start_is_not_retried(clock: Clock) -> None:
    service, lines = Service(), list[str]()
    watcher = Supervisor([service], lines.append)
    end_and_wait(service, clock, watcher, lines)  # killed: not a failure
    service.end, service.has_failed = "ended with exit code 1", True
    watcher.poll()
    watcher = Supervisor([service], lines.append)
    with pytest.raises(ServeError, match=r"^thing ended with exit code 1\.$"):
        watcher.poll()


def has_ended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Prints its number and that of a child.
PARENT = (
    "import os, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print(os.getpid(), child.pid, flush=True); time.sleep(60)"
)


def test_children_of_a_killed_command_run_until_the_watcher_stops(tmp_path: Path) -> None:
    command = Command("thing", [sys.executable, "-c", PARENT], tmp_path, tmp_path)
    log = tmp_path / "thing.log"
    log.write_text("of an earlier start\n")

    def pids() -> list[int]:
        return [int(word) for word in log.read_text().split()]

    try:
        command.start()
        until(lambda: log.exists() and len(pids()) == 2)
        os.kill(pids()[0], signal.SIGKILL)
        until(lambda: command.ended() is not None)
        assert command.ended() == f"was killed by SIGKILL (see {log})" and not command.failed()
        command.start()
        until(lambda: len(pids()) == 4)  # appended to the log
        assert command.ended() is None
        assert [has_ended(pid) for pid in pids()] == [True, False, False, False]
    finally:
        command.terminate()
        command.wait(10)
    assert all(has_ended(pid) for pid in pids())


def test_a_large_log_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MAX_LOG_BYTES", 1000)
    writer = "import time\nfor number in range(9999): print(f'line {number:04}', flush=True); time.sleep(0.001)"
    command = Command("thing", [sys.executable, "-c", writer], tmp_path, tmp_path)
    log, older = tmp_path / "thing.log", tmp_path / "thing.log.1"

    def is_rotated() -> bool:
        assert command.ended() is None
        return older.exists() and "line" in log.read_text()

    try:
        command.start()
        until(is_rotated)
    finally:
        command.terminate()
        command.wait(10)
    assert older.stat().st_size > 1000
    # The writer continues at the start of the file, without a hole.
    assert re.match(r"line \d{4}\n", log.read_text())


SERVED = """
import signal, sys, time
from pathlib import Path
from qupersync_assets.core.signals import stop_on_signals
from qupersync_assets.serve.supervisor import Command, Supervisor
from qupersync_assets.core.signals import uninterrupted

stop_on_signals()
command = Command("thing", [sys.executable, "-c", "import time; time.sleep(60)"], Path(), None)
try:
    with uninterrupted():
        command.start()
        signal.raise_signal(signal.SIGTERM)
        print("still here", flush=True)
except KeyboardInterrupt:
    print("now", flush=True)
watcher = Supervisor([command], lambda line: print(line, flush=True))
command.terminate()
try:
    while True:
        watcher.poll()
        time.sleep(0.01)
except KeyboardInterrupt:
    command.wait(10)
    print("stopped", flush=True)
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_delayed_by_critical_sections_and_end_pauses(sign: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", SERVED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(sign)  # in the pause of a second
        lines.append(process.stdout.read())
    assert [*lines[:2], lines[3]] == ["still here\n", "now\n", "stopped\n"]
    assert lines[2].endswith("thing was killed by SIGTERM; it is started again in 1 s.\n")


def test_uninterrupted_restores_the_handlers() -> None:
    before = [signal.getsignal(number) for number in signals.STOP_SIGNALS]
    with pytest.raises(ZeroDivisionError), uninterrupted():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in signals.STOP_SIGNALS] == before
