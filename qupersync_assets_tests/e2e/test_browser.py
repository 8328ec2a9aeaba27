"""Tests of the Dagster UI: lineage, materialisation, checks, runs and the schedule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.e2e.conftest import Query
from qupersync_assets_tests.support.attack_page import AttackPage
from qupersync_assets_tests.support.browser import TIMEOUT_MS, collect_errors
from qupersync_assets_tests.support.demo_process import Demo, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.e2e

SCHEDULE = "/locations/qupersync/schedules/qupersync_main_schedule"
SUCCESSES = "SELECT * FROM quper.sync_logs WHERE sync_job_id = %s AND status = 'success' ORDER BY id DESC"


def shown(page: Page, key: str) -> str:
    """Return the value of a key in a metadata table."""
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=key, exact=True))
    text: str = row.first.get_by_role("cell").nth(1).inner_text()
    return text.replace(",", "").strip()


def toggle(page: Page, on: bool) -> None:
    """Start or pause the schedule in the UI."""
    page.goto(SCHEDULE)
    switch = page.get_by_role("checkbox")
    switch.wait_for(state="attached")
    if switch.is_checked() is not on:
        switch.locator("xpath=ancestor-or-self::label").click()
        until(lambda: switch.is_checked() is on, 30)


@pytest.fixture
def paused(page: Page, demo: Demo, target: Query) -> Iterator[None]:
    """Pause the schedule, so that only the test starts runs."""
    toggle(page, on=False)
    running = "SELECT 1 FROM quper.sync_logs WHERE status = 'running'"
    query = "{ runsOrError(filter: {statuses: [QUEUED, STARTING, STARTED]}) { ... on Runs { results { id } } } }"
    until(lambda: not demo.ask(query)["runsOrError"]["results"] and not target(running), 120)
    yield
    toggle(page, on=True)


def test_errors_of_a_page_are_collected(chrome: Browser) -> None:
    page = chrome.new_page()
    errors = collect_errors(page, "127.0.0.1")
    page.goto("data:text/html,<script>console.error('ouch'); fetch('http://elsewhere.invalid/'); nonsense()</script>")
    until(lambda: len(errors) >= 3, 10)
    for word in ("console: ouch", "request to http://elsewhere.invalid/", "nonsense is not defined"):
        assert any(word in error for error in errors), errors


def test_lineage_links_table_and_view(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Lineage").click()
    for group in ("redshift", "quper"):
        heading = page.get_by_role("button", name=f"{group} {group}")
        heading.locator("xpath=preceding::button[1]").click()
    for name in {spec.table.name for spec in default_specs()} | {v for s in default_specs() for v in s.all_sources}:
        assert page.get_by_role("button", name=f"{name} {name}", exact=False).count() == 1, name
    page.get_by_role("button", name="table_stats table_stats").click()
    page.get_by_text("as svv_table_info shows them").wait_for()
    page.goto("/assets/quper/table_stats")
    page.get_by_role("row").filter(has_text="size_mb").get_by_role("link").click()
    page.wait_for_url("**/assets/redshift/svv_table_info")
    documentation = page.get_by_role("link", name="https://docs.aws.amazon.com/redshift")
    assert documentation.get_attribute("href") == (
        "https://docs.aws.amazon.com/redshift/latest/dg/r_SVV_TABLE_INFO.html"
    )
    size = page.get_by_role("row").filter(has=page.get_by_role("cell", name="size", exact=True))
    size.get_by_role("link").click()
    page.wait_for_url("**/assets/quper/table_stats")
    page.get_by_role("link", name="table_stats.py").wait_for()


LAG, DURATION = "lag of the newest data in seconds", "duration of the load in seconds"


def test_materialisation_shows_counts_of_sync_logs(page: Page, paused: None, target: Query) -> None:
    before = target(SUCCESSES, "table_stats_sync")[0]["id"]
    page.goto("/assets/quper/table_stats")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("Launched run").wait_for()
    log = until(lambda: [row for row in target(SUCCESSES, "table_stats_sync") if row["id"] > before], 120)[0]
    (rows,) = target("SELECT count(*) FROM quper.table_stats")
    page.goto("/assets/quper/table_stats?view=events")
    page.get_by_text("Materialized in run").wait_for()
    assert page.get_by_role("link", name=log["run_id"][:8], exact=True).count()
    written = log["rows_inserted"] + log["rows_updated"]
    counts = {
        "rows extracted from Redshift": log["rows_extracted"],
        "rows inserted or updated": written,
        "rows skipped as invalid": log["rows_skipped"],
    }
    assert log["rows_extracted"] > 20
    assert {name: shown(page, name) for name in counts} == {name: str(value) for name, value in counts.items()}
    assert shown(page, "dagster/row_count") == str(rows["count"])
    assert shown(page, "source") == log["source"] == "svv_table_info"
    assert abs(float(shown(page, DURATION)) * 1000 - log["duration_ms"]) < 2000
    assert 0 <= int(shown(page, LAG)) < 120
    page.goto("/assets/quper/table_stats")
    page.get_by_role("button", name="Plots").click()
    for name in (LAG, DURATION, *counts):
        page.get_by_text(name, exact=True).first.wait_for()
    assert page.locator("canvas").count() >= len(counts) + 2


def test_checks_pass_and_show_last_runs(page: Page, paused: None, target: Query) -> None:
    page.goto("/assets/quper/query_history?view=checks")
    for name in ("no_gap", "no_skipped_rows", "sees_all_rows", "source_schema"):
        page.get_by_role("link", name=name).or_(page.get_by_text(name, exact=True)).first.click()
        page.get_by_text("Passed", exact=True).wait_for()
    page.goto("/assets/quper/query_history?view=checks&checkDetail=no_skipped_rows")
    table = page.get_by_role("table").filter(has_text="start (UTC)").last
    table.wait_for()
    lines = [re.split(r"\s*\t\s*", text) for text in table.inner_text().strip().splitlines()]
    cells = [cell for line in lines for cell in line if cell]
    heading, numbers = cells[:8], cells[8:]
    assert heading == ["start (UTC)", "status", "ms", "extracted", "inserted", "updated", "skipped", "run"]
    logs = target("SELECT * FROM quper.sync_logs WHERE sync_job_id = 'query_history_sync' ORDER BY id DESC LIMIT 10")
    names = ("status", "duration_ms", "rows_extracted", "rows_inserted", "rows_updated", "rows_skipped")
    expected = [
        [f"{log['started_at']:%Y-%m-%d %H:%M:%S}", *(str(log[name]) for name in names), log["run_id"][:8]]
        for log in logs
    ]
    assert numbers == [cell for row in expected for cell in row]


def test_run_shows_trigger_and_result(page: Page, target: Query) -> None:
    first = target("SELECT run_id FROM quper.sync_logs ORDER BY id LIMIT 1")[0]["run_id"]
    page.goto(f"/runs/{first}")
    for text in ("Success", "RUN_SUCCESS", "quper__table_stats"):
        page.get_by_text(text, exact=True).first.wait_for()
    page.get_by_text(re.compile(r"^\d+ assets$")).first.wait_for()  # also the views that were read
    page.get_by_role("button", name="View tags and config").click()
    for tag in ("qupersync/cluster: sandbox", "qupersync/trigger: cli"):
        page.get_by_text(tag).first.wait_for()


def test_schedule_ticks_and_can_be_paused(page: Page, demo: Demo, target: Query) -> None:
    page.goto(SCHEDULE)
    page.get_by_text("Syncs every 60 s").wait_for()
    page.get_by_text("1 run requested").first.wait_for(timeout=150_000)
    query = '{ runsOrError(filter: {tags: [{key: "qupersync/trigger", value: "schedule"}]}, limit: 1) { ... on Runs { results { runId } } } }'
    run_id = until(lambda: demo.ask(query)["runsOrError"]["results"], 60)[0]["runId"]
    page.get_by_role("link", name=run_id[:8]).first.wait_for()
    until(
        lambda: (
            len(target("SELECT 1 FROM quper.sync_logs WHERE run_id = %s AND status = 'success'", run_id))
            == len(default_specs())
        ),
        120,
    )
    toggle(page, on=False)
    page.get_by_role("row", name="Next tick").wait_for(state="detached")
    toggle(page, on=True)
    page.get_by_role("row", name="Next tick").wait_for()


def test_the_first_page_shows_at_once_whether_all_is_well(any_page: Page) -> None:
    any_page.goto("/")
    verdict = any_page.get_by_text("All syncs are well").bounding_box()
    size = any_page.viewport_size
    assert size and verdict and verdict["y"] + verdict["height"] < size["height"] / 3
    assert any_page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    any_page.get_by_role("link", name="table_stats").click()
    any_page.get_by_text("no_skipped_rows").first.wait_for()


PAGES: dict[str, Any] = {
    "/overview/activity/timeline": "qupersync_main",
    "/assets": "alert_events",
    "/asset-groups": "quper",
    "/assets/quper/alert_events": "Freshness policy",
    "/assets/quper/alert_events?view=events": "rows inserted or updated",
    "/assets/quper/alert_events?view=checks": "no_skipped_rows",
    "/assets/quper/alert_events?view=lineage": "Graph depth",
    "/assets/redshift/svl_user_activity": "External Asset",
    "/jobs": "node_details_sync",
    "/locations/qupersync/jobs/qupersync_main": "The schedule runs this job.",
    "/locations/qupersync/jobs/node_details_sync": "Syncs only quper.node_details.",
    "/runs": "qupersync/trigger: cli",
    "/automation": "qupersync_close_stale_rows",
    SCHEDULE: "A tick is skipped if it is late, or while a sync runs.",
    "/locations": "Loaded",
}


def test_all_pages_load_without_errors(any_page: Page) -> None:
    for address, words in PAGES.items():
        any_page.goto(address)
        any_page.get_by_text(words).first.wait_for(state="attached")
        text = any_page.locator("body").inner_text()
        assert not re.search(r"undefined|\bNaN\b|\[object|Something went wrong|Not found", text), (address, text)


def test_a_page_of_another_origin_neither_launches_nor_shows_the_ui(chrome: Browser, demo: Demo) -> None:
    with AttackPage(demo.port, "node_details_sync") as elsewhere, chrome.new_page() as page:
        refused: list[tuple[str, int]] = []
        page.on("response", lambda r: refused.append((r.request.method, r.status)) if str(demo.port) in r.url else None)
        page.goto(elsewhere.url)
        page.wait_for_function("document.querySelector('p').textContent.startsWith('done')", timeout=TIMEOUT_MS)
        assert page.text_content("p") == "done:" + 7 * " failed"
        assert page.frame("frame").url == "chrome-error://chromewebdata/"  # the UI is not in the frame
        # Also without waiting for an answer, as a form does.
        assert refused.count(("POST", 403)) == 2 and {status for _, status in refused} == {403}
    found = demo.ask("{ runsOrError { ... on Runs { results { tags { key value } } } } }")["runsOrError"]["results"]
    assert found and {"key": "from", "value": "elsewhere"} not in [tag for run in found for tag in run["tags"]]
