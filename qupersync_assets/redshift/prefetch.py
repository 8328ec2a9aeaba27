"""Reading ahead: the next page is on its way while one is loaded."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

T = TypeVar("T")

# Pages that wait for the loader, besides the one that it loads and the one that is being read.
DEPTH = 1
# Seconds to wait for the reading thread when its pages are no longer wanted.
_PATIENCE = 5


def prefetch(pages: Generator[T], interrupt: Callable[[], None]) -> Generator[T]:
    """The pages, in the same order, read by a thread of their own.

    An error of `pages` is raised after the pages before it. When the generator is closed, or an error is
    thrown into it, reading ends at once.

    Args:
        pages: read and closed by the thread alone.
        interrupt: called from this thread, it ends what `pages` waits for.
    """
    ready: SimpleQueue[tuple[T] | _End] = SimpleQueue()
    free = Semaphore(DEPTH)
    stopped = Event()

    def read() -> None:
        end = _End()
        try:
            with closing(pages):
                for page in pages:
                    free.acquire()
                    if stopped.is_set():
                        break
                    ready.put((page,))
        except BaseException as error:
            end = _End(error)
        ready.put(end)

    thread = Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            free.release()
            yield item[0]
    except BaseException:
        stopped.set()
        free.release()
        interrupt()
        thread.join(_PATIENCE)
        raise
    if item.error is not None:
        raise item.error


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None
