"""Supervises processes: restarts the ones that end, after growing pauses, and stops all of them in time."""

# No library: honcho stops everything when one process ends; circus and supervisor are servers of their own.
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, Protocol

from qupersync_assets.core.signals import uninterrupted

STOP_SECONDS = 15
POLL_SECONDS = 0.5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0

# After so long without an end, the next pause is the first one again.
HEALTHY_SECONDS = 300.0

# A process that fails within 20 s of its first start is misconfigured: do not restart it.
FIRST_SECONDS = 20.0

# The size of a log file above which it becomes the older one, which it replaces.
MAX_LOG_BYTES = 10_000_000


class ServeError(RuntimeError):
    """A process could not be started or ended at once; the text is one sentence for the user."""


def how_ended(code: int | None, log: Path | None) -> str | None:
    """Describe how a process ended; None if it is running. A negative code is the number of a signal."""
    if code is None:
        return None
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{how} (see {log})" if log else how


class ProcessGroup:
    """A command in its own session: Ctrl-C does not reach it, and all its descendants stop together."""

    def __init__(
        self, name: str, command: Sequence[str | Path], cwd: Path, logs: Path | None, append: bool = False
    ) -> None:
        self.log = logs / f"{name}.log" if logs else None
        if self.log:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            if not append:  # else descendants of an earlier process may still write to it
                self.log.unlink(missing_ok=True)
        with self.log.open("ab") if self.log else contextlib.nullcontext() as output:
            self._process = subprocess.Popen(
                [str(c) for c in command], cwd=cwd, stdout=output, stderr=output, start_new_session=True
            )

    def poll(self) -> int | None:
        """Return the exit code of the command, negative for a signal; None while it is running."""
        return self._process.poll()

    def alive(self) -> bool:
        """Return whether the command or one of its descendants is running."""
        return self.poll() is None or self._signal(0)

    def limit_log(self) -> None:
        """Start the log file again if it is too large; the lines so far are in the file with the suffix `.1`."""
        if self.log and self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(self.log, f"{self.log}.1")
            os.truncate(self.log, 0)  # its writers append, so that they continue at the start

    def terminate(self) -> None:
        """Send SIGTERM to the command and all its descendants."""
        self._signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait until the command and all its descendants ended; kill them after some seconds."""
        deadline = time.monotonic() + seconds
        killed = False
        while self.alive():
            late = time.monotonic() - deadline
            if late > 0 and not killed:
                killed = self._signal(signal.SIGKILL)
            if late > 5:
                return  # only zombies remain, which no process reaps
            time.sleep(0.05)

    def _signal(self, number: int) -> bool:
        """Send a signal to the group; return whether it has a process."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
            return True
        return False


class Service(Protocol):
    """A process that a Supervisor restarts."""

    name: str

    def start(self) -> None:
        """Start or restart it; an OSError or RuntimeError says why that failed."""

    def ended(self) -> str | None:
        """Describe how it ended ("was killed by SIGKILL"); None while it is running."""

    def failed(self) -> bool:
        """Return whether it ended with an error and was not killed."""


@dataclass
class Command:
    """A command as a Service.

    A restart does not stop descendants of the previous process: runs of a killed daemon complete, and
    Dagster's code servers end by themselves when they have no clients.
    """

    name: str
    command: Sequence[str | Path]
    cwd: Path
    logs: Path | None
    _groups: list[ProcessGroup] = field(default_factory=list)  # the last one is current

    def start(self) -> None:
        with uninterrupted():
            # Forget dead groups: the system may reuse their numbers.
            alive = [group for group in self._groups if group.alive()]
            new = ProcessGroup(self.name, self.command, self.cwd, self.logs, append=bool(self._groups))
            self._groups = [*alive, new]

    def ended(self) -> str | None:
        self._groups[-1].limit_log()
        return how_ended(self._groups[-1].poll(), self._groups[-1].log)

    def failed(self) -> bool:
        return (self._groups[-1].poll() or 0) > 0

    def terminate(self) -> None:
        """Send SIGTERM to the current process and to all descendants of earlier ones."""
        for group in self._groups:
            group.terminate()

    def wait(self, seconds: float) -> None:
        """Wait until all of them ended; kill them after some seconds."""
        deadline = time.monotonic() + seconds
        for group in self._groups:
            group.wait(max(0.0, deadline - time.monotonic()))


@dataclass
class _SupervisedService:
    """A started service, and the time of its next start."""

    service: Service
    started_at: float
    is_first_start: bool = True
    pause: float = 0.0
    restart_at: float | None = None

    def poll(self) -> str | None:
        """Restart the service if it is time; return what to report if it ended."""
        how = None
        if self.restart_at is None:
            how = self.service.ended()
        elif time.monotonic() >= self.restart_at:
            self.restart_at, self.is_first_start, self.started_at = None, False, time.monotonic()
            try:
                self.service.start()
            except (OSError, RuntimeError) as error:
                how = f"could not be started ({error})"
        if how is None:
            return None
        lifetime = time.monotonic() - self.started_at
        if self.is_first_start and lifetime < FIRST_SECONDS and self.service.failed():
            raise ServeError(f"{self.service.name} {how}.")
        grows = self.pause and lifetime < HEALTHY_SECONDS
        self.pause = min(2 * self.pause, LONGEST_PAUSE) if grows else FIRST_PAUSE
        self.restart_at = time.monotonic() + self.pause
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"{now} {self.service.name} {how}; it is started again in {self.pause:.0f} s."


class Supervisor:
    """Restarts services that end, and reports each restart with one line.

    The first pause is one second; each further one is twice as long, up to a minute. After some minutes of
    running the pause is one second again.
    """

    def __init__(self, services: Sequence[Service], report: Callable[[str], None]) -> None:
        self._services = [_SupervisedService(service, time.monotonic()) for service in services]
        self._report = report

    def poll(self) -> None:
        """Check each service once.

        Raises:
            ServeError: one failed soon after its first start.
        """
        for service in self._services:
            if line := service.poll():
                self._report(line)

    def run(self) -> NoReturn:
        """Poll forever."""
        while True:
            self.poll()
            time.sleep(POLL_SECONDS)
