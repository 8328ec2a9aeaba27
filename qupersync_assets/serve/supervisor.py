"""Keeps processes running: what ends is started again, after pauses that grow; and ends them all in time."""

from __future__ import annotations

# No library: honcho stops everything when one ends; circus and supervisor are servers with files and sockets.
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from qupersync_assets.core.signals import uninterrupted

STOP_SECONDS = 15

LOOK_SECONDS = 0.5

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0

# Who has lived so long was healthy: the next pause is the first again.
HEALTHY_SECONDS = 300.0

# Who ends by itself so soon after the very first start has a fault that no second try mends.
FIRST_SECONDS = 20.0


class ServeError(RuntimeError):
    """A process could not be started or did not stay up; the text is one sentence for the user."""


def how_ended(code: int | None, log: Path | None) -> str | None:
    """How a process ended, in words; None if it has not. A negative code is that of a signal."""
    if code is None:
        return None
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{how} (see {log})" if log else how


class ProcessGroup:
    """A command in a session of its own: Ctrl-C reaches us alone, and all of it can be stopped as one."""

    def __init__(
        self, name: str, command: Sequence[str | Path], cwd: Path, logs: Path | None, again: bool = False
    ) -> None:
        """
        Args:
            logs: folder for the output; None leaves it on this process's own.
            again: whether the output is added to that of an earlier life, of which somebody may still write.
        """
        self.name = name
        self.log = logs / f"{name}.log" if logs else None
        if self.log:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            if not again:
                self.log.unlink(missing_ok=True)
        with self.log.open("ab") if self.log else contextlib.nullcontext() as output:
            self._process = subprocess.Popen(
                [str(c) for c in command], cwd=cwd, stdout=output, stderr=output, start_new_session=True
            )

    def poll(self) -> int | None:
        """The exit code of the command, negative for a signal; None while it runs."""
        return self._process.poll()

    def alive(self) -> bool:
        """Whether the command or one of its descendants still runs."""
        return self.poll() is None or self._signal(0)

    def terminate(self) -> None:
        """Ask the command and all its descendants to end."""
        self._signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait until the command and all its descendants are gone; kill those that take longer."""
        deadline = time.monotonic() + seconds
        killed = False
        while self.alive():
            late = time.monotonic() - deadline
            if late > 0 and not killed:
                killed = self._signal(signal.SIGKILL)
            if late > 5:
                return  # what is left has ended, and nobody reaps it
            time.sleep(0.05)

    def _signal(self, number: int) -> bool:
        """Whether there was anybody to receive it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
            return True
        return False


class Service(Protocol):
    """What a Supervisor keeps running."""

    name: str

    def start(self) -> None:
        """Start it, the first time or again; an OSError or RuntimeError says why that was not possible."""

    def ended(self) -> str | None:
        """How it ended ("was killed by SIGKILL"), None while it runs."""

    def failed(self) -> bool:
        """Whether it ended by itself, with an error, and was not killed."""


class Command:
    """A command as a Service. What it started is left alone when it is killed: the runs of a killed daemon
    come to their end, and Dagster's code servers go by themselves when nobody asks for them any more."""

    def __init__(self, name: str, command: Sequence[str | Path], cwd: Path, logs: Path | None) -> None:
        self.name = name
        self._command = command
        self._cwd = cwd
        self._logs = logs
        self._groups: list[ProcessGroup] = []  # the last one is the one of this life

    def start(self) -> None:
        with uninterrupted():
            # Who is gone is forgotten: the system may give the number of its group to somebody else.
            left = [group for group in self._groups if group.alive()]
            new = ProcessGroup(self.name, self._command, self._cwd, self._logs, again=bool(self._groups))
            self._groups = [*left, new]

    def ended(self) -> str | None:
        return how_ended(self._groups[-1].poll(), self._groups[-1].log)

    def failed(self) -> bool:
        code = self._groups[-1].poll()
        return code is not None and code > 0

    def terminate(self) -> None:
        """Ask all that is left of this life and of earlier ones to end."""
        for group in self._groups:
            group.terminate()

    def wait(self, seconds: float) -> None:
        """Wait until all of it is gone; kill what takes longer."""
        deadline = time.monotonic() + seconds
        for group in self._groups:
            group.wait(max(0.0, deadline - time.monotonic()))


class _Kept:
    """A service that has been started, and when it is to be started again."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.first = True
        self.since = time.monotonic()
        self.pause = 0.0
        self.due: float | None = None

    def look(self, tell: Callable[[str], None]) -> None:
        how = None
        if self.due is None:
            how = self.service.ended()
        elif time.monotonic() >= self.due:
            self.due, self.first, self.since = None, False, time.monotonic()
            try:
                self.service.start()
            except (OSError, RuntimeError) as error:
                how = f"could not be started ({error})"
        if how is not None:
            self._pause(how, tell)

    def _pause(self, how: str, tell: Callable[[str], None]) -> None:
        lived = time.monotonic() - self.since
        if self.first and lived < FIRST_SECONDS and self.service.failed():
            raise ServeError(f"{self.service.name} {how}.")
        again = min(2 * self.pause, LONGEST_PAUSE) if self.pause and lived < HEALTHY_SECONDS else FIRST_PAUSE
        self.pause, self.due = again, time.monotonic() + again
        now = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}"
        tell(f"{now} {self.service.name} {how}; it is started again in {again:.0f} s.")


class Supervisor:
    """Looks after services that have been started: one that ends is started again, with one line each time.

    The first pause is one second, each further one twice as long up to a minute; some minutes of life make it
    one second again.
    """

    def __init__(self, services: Sequence[Service], tell: Callable[[str], None]) -> None:
        self._kept = [_Kept(service) for service in services]
        self._tell = tell

    def look(self) -> None:
        """Look once at each.

        Raises:
            ServeError: one ended by itself soon after its first start.
        """
        for kept in self._kept:
            kept.look(self._tell)
