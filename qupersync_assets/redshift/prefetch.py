"""Prefetches pages in a thread: the next page is read while one is loaded."""

from collections.abc import Callable, Generator
from contextlib import closing
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

T = TypeVar("T")

# Pages in the queue, besides the one that is loaded and the one that is read.
DEPTH = 1
# Seconds to wait for the thread after it was interrupted.
_JOIN_SECONDS = 5


def prefetch(pages: Generator[T], interrupt: Callable[[], None]) -> Generator[T]:
    """Yield the pages in the same order; a separate thread reads them.

    An error of `pages` is raised after the pages before it. Closing the generator, or throwing an error into
    it, stops the thread at once: `interrupt` makes its pending read fail, and the thread closes `pages`.
    """
    # A page, in a tuple; at the end the error, or None.
    ready: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    free = Semaphore(DEPTH)
    stopped = Event()

    def read() -> None:
        end: BaseException | None = None
        try:
            with closing(pages):
                for page in pages:
                    free.acquire()
                    if stopped.is_set():
                        break
                    ready.put((page,))
        except BaseException as error:
            end = error
        ready.put(end)

    thread = Thread(target=read, name="prefetch", daemon=True)
    thread.start()
    try:
        while isinstance(item := ready.get(), tuple):
            free.release()
            yield item[0]
    except BaseException:
        stopped.set()
        free.release()
        interrupt()
        thread.join(_JOIN_SECONDS)
        raise
    if item is not None:
        raise item
