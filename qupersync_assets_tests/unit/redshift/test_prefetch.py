"""Prefetching: the order of pages, their number, and that each side stops the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator

import pytest

from qupersync_assets.redshift.prefetch import prefetch


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Source:
    """Pages that count how far they have been read, and that may wait, fail, or be interrupted."""

    def __init__(self, count: int, wait_at: int = -1, fail_at: int = -1) -> None:
        self.read = 0
        self.closed_by: str | None = None
        self.interrupted = threading.Event()
        self._count, self._wait_at, self._fail_at = count, wait_at, fail_at

    def pages(self) -> Generator[int]:
        try:
            for n in range(self._count):
                if n == self._wait_at:
                    assert self.interrupted.wait(5)
                    raise ConnectionError("cut off")
                if n == self._fail_at:
                    raise LookupError("no page")
                self.read += 1
                yield n
        finally:
            self.closed_by = threading.current_thread().name


def test_pages_are_in_order_and_the_thread_ends() -> None:
    source = Source(50)
    assert list(prefetch(source.pages(), source.interrupted.set)) == list(range(50))
    assert source.closed_by == "prefetch"
    assert not source.interrupted.is_set()


def test_at_most_two_pages_are_prefetched() -> None:
    source = Source(50)
    pages = prefetch(source.pages(), source.interrupted.set)
    for n in range(3):
        assert next(pages) == n
        until(lambda n=n: source.read == n + 3)  # type: ignore[misc]
        time.sleep(0.05)
        assert source.read == n + 3
    pages.close()
    assert source.closed_by == "prefetch"


def test_an_error_follows_the_pages_before_it() -> None:
    source = Source(50, fail_at=3)
    seen = []
    with pytest.raises(LookupError, match="no page"):
        for page in prefetch(source.pages(), source.interrupted.set):
            seen.append(page)
    assert seen == [0, 1, 2]
    assert not source.interrupted.is_set()


def test_a_waiting_reader_is_interrupted() -> None:
    source = Source(50, wait_at=2)
    pages = prefetch(source.pages(), source.interrupted.set)
    assert next(pages) == 0
    until(lambda: source.read == 2)
    began = time.monotonic()
    pages.close()
    assert source.interrupted.is_set() and source.closed_by == "prefetch"
    assert time.monotonic() - began < 1


def test_nothing_is_read_before_the_first_page_is_requested() -> None:
    source = Source(5)
    pages = prefetch(source.pages(), source.interrupted.set)
    time.sleep(0.05)
    assert source.read == 0
    pages.close()
