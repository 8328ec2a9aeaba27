"""The health page of the demo in a browser: complete, within the width, without a script or a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from qupersync_assets.health.report.plots import PLOTS
from qupersync_assets_tests.support.browser import collect_errors
from qupersync_assets_tests.support.demo_process import Demo

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.e2e

# The relative luminance of a colour: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance
CONTRAST = """() => {
    const luminance = text => {
        const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const page = luminance(getComputedStyle(document.body).backgroundColor);
    return [...document.querySelectorAll("h1, p, .badge, figcaption, a, th, svg text")]
        .filter(e => e.getClientRects().length)
        .map(e => luminance(getComputedStyle(e)[e.closest("svg") ? "fill" : "color"]))
        .map(l => (Math.max(l, page) + 0.05) / (Math.min(l, page) + 0.05));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_readable(chrome: Browser, demo: Demo, width: int, scheme: Literal["light", "dark"]) -> None:
    page = chrome.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    errors = collect_errors(page, "none")
    page.goto((demo.sandbox.folder.parent / "health.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator(".finding").count() > 5 and page.locator("figure").count() == len(PLOTS)
    for plot in PLOTS:
        pictures = page.locator(f"#c1-{plot.id} svg")
        (shown,) = (picture for picture in pictures.all() if picture.is_visible())
        box = shown.bounding_box()
        assert box and 250 < box["width"] <= width and box["height"] > 20, plot.id
    assert min(page.evaluate(CONTRAST)) >= 4.5
    # All of a finding is seen without scrolling to the right.
    further = page.locator(".more .scroll")
    assert further.evaluate("e => e.scrollWidth <= e.clientWidth") and further.locator("tr").count() > 20
    page.locator("figure summary").first.click()
    assert page.locator("figure table").first.is_visible()
    assert not errors
