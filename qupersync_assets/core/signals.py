"""SIGINT and SIGTERM: end this process in order, or wait until it is safe."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM that come meanwhile are received at the end: between the start of a process and the
    note that it was started nobody could stop it. For the main thread, which alone receives them."""
    came: list[int] = []

    def later(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    handlers = {number: signal.signal(number, later) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def stop_on_signals() -> None:
    """Let SIGTERM end this process as Ctrl-C does, through its `finally` blocks. Ctrl-C itself is named too,
    because a shell has it ignored by what it starts in the background."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in STOP_SIGNALS:
        signal.signal(number, interrupt)
