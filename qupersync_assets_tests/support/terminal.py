"""A command in a terminal of its own, as a person uses it: reads the screen, types answers."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS = 60


class Terminal:
    """Starts a command; `screen` is all that was shown, with what the terminal echoed.

    Args:
        command: the program and its arguments.
        variables: its environment.
        folder: its working directory.
    """

    def __init__(self, command: list[str], variables: Mapping[str, str], folder: Path) -> None:
        self.screen = ""
        self._answered = 0  # characters of the screen at the last answer
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell lets its background jobs ignore it
            os.chdir(folder)
            os.execve(command[0], command, {**variables, "TERM": "xterm"})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._file)

    def answer(self, prompt: str, text: str, key: str = "\n") -> None:
        """Wait until the screen ends with a prompt, then type a text and press a key, by default Enter."""
        while not self.screen[self._answered :].rstrip(" ").endswith(prompt):
            assert self._read(), f"no prompt {prompt!r}: {self.screen}"
        self._answered = len(self.screen)
        # A prompt may be shown before the echo is switched off, and before Ctrl-C is noticed.
        time.sleep(0.2)
        os.write(self._file, f"{text}{key}".encode())

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        while self._read():
            pass
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _read(self) -> bool:
        """Read what is shown next; return False at the end."""
        assert select.select([self._file], [], [], SECONDS)[0], f"nothing for {SECONDS} s: {self.screen}"
        try:
            self.screen += os.read(self._file, 65536).decode(errors="replace")
        except OSError:  # the error of Linux when the other end is closed
            return False
        return True
