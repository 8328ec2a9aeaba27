"""Debian's Chromium, headless, as a desktop and as a phone, and what goes wrong in its pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "screen": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
    # Dagster asks the browser whether it is a phone's.
    "user_agent": "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/130.0.0.0 Mobile Safari/537.36",
}
# A page waits for GraphQL answers of a webserver that shares the machine with runs.
PATIENCE_MS = 60_000


def chromium() -> str:
    """The browser's path.

    Raises:
        RuntimeError: there is none; the text says what to install.
    """
    names = [os.environ.get("CHROMIUM") or "chromium", "chromium-browser", "google-chrome"]
    for path in map(shutil.which, names):
        if path:
            return path
    raise RuntimeError(
        "No Chromium on this machine: install it (Debian, Ubuntu: apt-get install chromium), "
        "or name its program in CHROMIUM."
    )


@contextmanager
def browser() -> Iterator[Browser]:
    """A running browser."""
    path = chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise RuntimeError("Playwright is missing: pip install -e '.[e2e]', as `make e2e` does.") from None
    with sync_playwright() as playwright:
        # Chromium's own sandbox refuses to run as root, as which containers and CI run it.
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


def watched(page: Page, host: str) -> list[str]:
    """A list that grows with whatever goes wrong in a page: errors of the console and of scripts, answers that
    are errors, and requests to another machine than `host`."""
    faults: list[str] = []

    def look(request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname != host:
            faults.append(f"request to {request.url}")

    page.on("console", lambda m: faults.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("response", lambda r: faults.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.on("request", look)
    return faults
