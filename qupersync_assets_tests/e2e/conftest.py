"""`make demo`, and a browser whose pages must not show errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qupersync_assets_tests.support.browser import DESKTOP, PHONE, TIMEOUT_MS, browser, collect_errors
from qupersync_assets_tests.support.demo_process import Demo, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Query = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def chrome() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture(scope="session")
def demo(chrome: Browser, new_project: Callable[[], Path]) -> Iterator[Demo]:
    """A running demo with the default jobs and a sync every minute; started only if there is a browser."""
    running = Demo(new_project(), 60, SYNC_JOBS="default")
    try:
        until(lambda: "Dagster UI" in running.output() or running.process.poll() is not None, 240)
        assert running.process.poll() is None, running.output()
        yield running
    finally:
        running.process.terminate()
        running.process.wait(60)


def _page(chrome: Browser, demo: Demo, device: dict[str, Any]) -> Iterator[Page]:
    with chrome.new_context(base_url=f"http://127.0.0.1:{demo.port}", **device) as context:
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        errors = collect_errors(page, "127.0.0.1")
        yield page
        assert not errors


@pytest.fixture
def page(chrome: Browser, demo: Demo) -> Iterator[Page]:
    """A page of 1280 pixels; the test fails if the page has an error."""
    yield from _page(chrome, demo, DESKTOP)


@pytest.fixture(params=[DESKTOP, PHONE], ids=["1280", "390"])
def any_page(chrome: Browser, demo: Demo, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of a desktop and of a phone."""
    yield from _page(chrome, demo, request.param)


@pytest.fixture(scope="session")
def target(demo: Demo) -> Query:
    """Return a function that runs SQL in the target database and returns rows as dicts."""

    def run(sql: str, *parameters: Any) -> list[dict[str, Any]]:
        with closing(demo.sandbox.connect_quper()) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    return run
