"""SIGINT and SIGTERM: end this process through its `finally` blocks, or after a critical section."""

import contextlib
import signal
from collections.abc import Iterator

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay SIGINT and SIGTERM until the end of the block. Only the main thread may use it.

    An interrupt between the start of a process and the assignment of its handle would leave it running.
    """
    received: list[int] = []
    handlers = {number: signal.signal(number, lambda found, _: received.append(found)) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def stop_on_signals() -> None:
    """Raise KeyboardInterrupt on SIGTERM and on SIGINT, which a shell ignores for background processes; its text
    says how the process was stopped."""
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)


def _stop(number: int, _frame: object) -> None:
    raise KeyboardInterrupt("stopped with Ctrl-C" if number == signal.SIGINT else "stopped with SIGTERM")
