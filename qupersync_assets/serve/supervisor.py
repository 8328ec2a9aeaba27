"""Supervises processes: restarts the ones that end, after growing pauses, and stops all of them in time."""

# No library: honcho stops everything when one process ends; circus and supervisor are servers of their own.
import contextlib
import os
import select
import shutil
import signal
import socket
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
# Between two questions whether a process lives.
ASK_SECONDS = 15.0
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

    def kill(self) -> None:
        """Kill the command alone."""
        self._process.kill()

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


class Question:
    """Asks a process again and again whether it lives, without waiting for the answer.

    Args:
        ask: sends a question, and returns the socket that gets the answer; an OSError if it cannot be sent.
        seconds: the time that an answer may take.
    """

    def __init__(self, ask: Callable[[], socket.socket], seconds: float) -> None:
        self._ask = ask
        self.seconds = seconds
        self._connection: socket.socket | None = None
        self.start()

    def start(self) -> None:
        """Begin again, with a process that lives or starts."""
        self._close()
        self._ask_at = time.monotonic() + ASK_SECONDS
        self._silent_since: float | None = None

    def is_overdue(self) -> bool:
        """Return whether the process has not answered in time; ask it if it is time."""
        now = time.monotonic()
        if self._connection and select.select([self._connection], [], [], 0)[0]:
            self.start()
        elif self._connection is None and now > self._ask_at:
            self._ask_at, self._silent_since = now + ASK_SECONDS, self._silent_since or now
            with contextlib.suppress(OSError):
                self._connection = self._ask()
        return self._silent_since is not None and now - self._silent_since > self.seconds

    def _close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


@dataclass
class Command:
    """A command as a Service.

    A restart does not stop descendants of the previous process: runs of a killed daemon complete, and
    Dagster's code servers end by themselves when they have no clients. A process that does not answer `question` is
    killed.
    """

    name: str
    command: Sequence[str | Path]
    cwd: Path
    logs: Path | None
    question: Question | None = None
    _groups: list[ProcessGroup] = field(default_factory=list)  # the last one is current

    def start(self) -> None:
        with uninterrupted():
            # Forget dead groups: the system may reuse their numbers.
            alive = [group for group in self._groups if group.alive()]
            new = ProcessGroup(self.name, self.command, self.cwd, self.logs, append=bool(self._groups))
            self._groups = [*alive, new]
        if self.question:
            self.question.start()

    def ended(self) -> str | None:
        group = self._groups[-1]
        group.limit_log()
        if group.poll() is None and self.question and self.question.is_overdue():
            group.kill()
            return f"did not answer for {self.question.seconds:.0f} s, and was killed"
        return how_ended(group.poll(), group.log)

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
