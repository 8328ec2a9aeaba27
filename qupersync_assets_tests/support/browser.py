"""Headless Chromium of the machine, as a desktop and as a phone; collects the errors of its pages."""

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
    # Dagster detects phones by this text.
    "user_agent": "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/130.0.0.0 Mobile Safari/537.36",
}
# The webserver shares the machine with runs.
TIMEOUT_MS = 60_000


def chromium() -> str:
    """Return the path of the browser.

    Raises:
        RuntimeError: no browser was found; the message names the package to install.
    """
    names = [os.environ.get("CHROMIUM") or "chromium", "chromium-browser", "google-chrome"]
    for path in map(shutil.which, names):
        if path:
            return path
    raise RuntimeError(
        "Chromium was not found: install it (Debian, Ubuntu: apt-get install chromium), "
        "or name its program in CHROMIUM."
    )


@contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser for the duration of the context."""
    path = chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise RuntimeError("Playwright is missing: pip install -e '.[e2e]', as `make e2e` does.") from None
    with sync_playwright() as playwright:
        # Chromium's sandbox does not run as root, which containers and CI use.
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


def collect_errors(page: Page, host: str) -> list[str]:
    """Return a list that collects the errors of a page.

    Errors of the console and of scripts, HTTP errors, and requests to another host than `host`.
    """
    errors: list[str] = []

    def check_host(request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname != host:
            errors.append(f"request to {request.url}")

    page.on("console", lambda m: errors.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(f"script: {error}"))
    page.on("response", lambda r: errors.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.on("request", check_host)
    return errors
