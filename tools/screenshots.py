"""Takes the screenshots of README.md from a demo: docs/health.png of its health page, the others of the Dagster UI.

`make screenshots` runs it; it needs Chromium, as `make e2e` does.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qupersync_assets_tests.support.browser import TIMEOUT_MS, browser
from qupersync_assets_tests.support.demo_process import Demo, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

DOCS = Path(__file__).parents[1] / "docs"
# Duration of animations on a page.
ANIMATION_MS = 4000
# The zoom that shows all nodes with their names.
FULL_GRAPH_ZOOM = 0.37
# Of the health page only the first findings and plots are shown.
FIRST_FINDINGS = ".more, .finding:nth-child(n+5) { display: none } h2 { margin-top: 20px !important }"


def health(page: Page, file: Path) -> None:
    """Take the beginning of the health page."""
    page.goto(file.resolve().as_uri())
    page.add_style_tag(content=FIRST_FINDINGS)
    page.screenshot(path=DOCS / "health.png")


def lineage(page: Page) -> None:
    """Take the lineage of all views and tables."""
    page.goto("/asset-groups")
    page.get_by_role("button", name="quper quper").wait_for()
    page.get_by_role("button", name="Hide navigation").click()
    page.get_by_role("button", name="panel_show_right").last.click()
    page.keyboard.press("Alt+KeyE")
    page.wait_for_timeout(ANIMATION_MS)
    zoom = page.get_by_role("slider")
    while float(zoom.get_attribute("aria-valuenow") or 0) > FULL_GRAPH_ZOOM:
        page.get_by_role("button", name="zoom_out").click()
        page.wait_for_timeout(ANIMATION_MS // 10)
    page.get_by_text("vacuum_history", exact=True).last.wait_for()
    page.wait_for_timeout(ANIMATION_MS)
    page.screenshot(path=DOCS / "lineage.png")


def run(page: Page, run_id: str) -> None:
    """Take a run of all jobs, with its steps over time."""
    page.goto(f"/runs/{run_id}")
    page.get_by_text("RUN_SUCCESS", exact=True).wait_for()
    page.get_by_role("button", name="expand_arrows").first.click()
    page.wait_for_timeout(ANIMATION_MS)
    page.screenshot(path=DOCS / "run.png")


@contextlib.contextmanager
def running_demo(**variables: str) -> Iterator[tuple[Demo, Path]]:
    """Run a demo with these variables, in a folder, until it serves the UI; stop it at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("workspace.yaml", "dagster.yaml"):
            shutil.copy(DOCS.parent / file, folder)
        demo = Demo(folder, 60, **variables)
        try:
            until(lambda: "Dagster UI" in demo.output() or demo.process.poll() is not None, 240)
            yield demo, folder
        finally:
            demo.process.terminate()
            demo.process.wait(60)


def main() -> None:
    """Start demos, take the screenshots, stop the demos."""
    with browser() as chrome:
        with running_demo() as (_, folder):
            page = chrome.new_page(viewport={"width": 1120, "height": 1240})
            health(page, folder / ".qupersync" / "health.html")
        with running_demo(SYNC_JOBS="default") as (demo, _):
            started = time.time()
            run_id = until(lambda: demo.complete_run(after=started), 180)
            address = f"http://127.0.0.1:{demo.port}"
            for take, width, height in ((lineage, 760, 1240), (lambda page: run(page, run_id), 1280, 640)):
                page = chrome.new_page(base_url=address, viewport={"width": width, "height": height})
                page.set_default_timeout(TIMEOUT_MS)
                take(page)


if __name__ == "__main__":
    main()
