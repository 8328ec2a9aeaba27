"""The health page: numbers as in the tables, names of servers as text, no other file."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from qupersync_assets.core.errors import SyncError
from qupersync_assets.health.evaluation import evaluate
from qupersync_assets.health.options import HealthOptions
from qupersync_assets.health.report import render
from qupersync_assets.health.report.plots import PLOTS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.workload.past import write_past
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.health import Clusters
from qupersync_assets_tests.support.html_page import Element, parse
from qupersync_assets_tests.support.integration import Query, Sync

LIMIT_BYTES = 2_000_000
HOSTILE = """<script>alert("it's")</script>&amp;{{ 7 * 7 }}"""
# By plot: the heading of the numbers, and a SELECT of the same numbers; each of the numbers is in the page, in any order.
NUMBERS = {
    "storage": (
        "Used, GB",
        "SELECT round(sum(used_mb) / 1024.0, 1) FROM quper.node_details_by_day WHERE day >= current_date - 45 GROUP BY day",
    ),
    "phases": (
        "Run, s",
        """SELECT round(sum(execution_time_us) / 1e6, 1) FROM quper.query_history
           WHERE start_time >= date_trunc('hour', now()) - interval '47 hours' GROUP BY date_trunc('hour', start_time)""",
    ),
    "queueing": (
        "Wait, s",
        """SELECT round(sum(queue_time_us) / 1e6, 1) FROM quper.query_history
           WHERE start_time >= date_trunc('hour', now()) - interval '47 hours'
           GROUP BY date_trunc('hour', start_time), service_class_name HAVING sum(queue_time_us) > 0""",
    ),
    "patterns": (
        "Queries",
        """SELECT count(*) FROM quper.query_history WHERE start_time >= now() - interval '7 days'
           GROUP BY generic_query_hash ORDER BY sum(execution_time_us) DESC LIMIT 10""",
    ),
    "users": (
        "Run, h",
        """SELECT round(sum(execution_time_us) / 3.6e9, 2) FROM quper.query_history
           WHERE start_time >= now() - interval '7 days' GROUP BY user_name ORDER BY 1 DESC LIMIT 10""",
    ),
    "spill": (
        "Queries that spilled",
        """SELECT count(*) FROM quper.query_metrics WHERE spilled_mb > 0 AND start_time >= now() - interval '14 days'
           GROUP BY date_trunc('day', start_time)""",
    ),
    "largest": ("Rows", "SELECT tbl_rows FROM quper.table_stats ORDER BY size_mb DESC LIMIT 15"),
    "growing": (
        "Growth, GB",
        """SELECT round((t.size_mb - d.size_mb) / 1024.0, 2) FROM quper.table_stats AS t JOIN quper.table_stats_daily AS d
           USING (table_id, database) WHERE d.day = current_date - 7 AND t.size_mb > d.size_mb
           ORDER BY t.size_mb - d.size_mb DESC LIMIT 15""",
    ),
    "alerts": (
        "Alerts",
        """SELECT sum(n) FROM (
               SELECT count(*) AS n FROM quper.alert_events WHERE event_time >= now() - interval '7 days'
               GROUP BY table_id ORDER BY n DESC LIMIT 10) AS a""",
    ),
    "statistics": (
        "Out of date, %",
        "SELECT stats_off_pct FROM quper.table_stats WHERE stats_off_pct > 10 ORDER BY size_mb DESC LIMIT 15",
    ),
    "unused": (
        "Rows",
        """SELECT tbl_rows FROM quper.table_stats WHERE table_id NOT IN (SELECT table_id FROM quper.table_scan_stats
           WHERE scan_hour >= now() - interval '30 days') ORDER BY size_mb DESC LIMIT 15""",
    ),
}  # fmt: skip


def number(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


@pytest.fixture
def page(
    filled: Sandbox, sync: Sync, target: Query, bare: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> Element:
    """The page of a cluster with problems, a past and hostile names."""
    filled.workload().add_problems(datetime.now(UTC))
    jobs = [spec.sync_job_id for spec in all_specs()]
    monkeypatch.setenv("SYNC_JOBS", ",".join(jobs))
    assert sync().success
    connection = filled.connect_quper()
    with connection, connection.cursor() as cursor:
        assert write_past(cursor) and not write_past(cursor)
    connection.close()
    target("UPDATE quper.table_stats SET table_name = %s WHERE table_name = 'impressions'", [HOSTILE])
    target("UPDATE quper.query_history SET user_name = %s WHERE user_name = 'bi_looker'", [HOSTILE])
    target("UPDATE quper.query_history SET query_text = %s || query_text", [HOSTILE])
    target("UPDATE quper.query_history SET service_class_name = %s WHERE service_class_name = 'dashboards'", [HOSTILE])
    evaluate(bare, "sandbox", HealthOptions(jobs))
    target("UPDATE quper.health_signals SET documentation = 'javascript:alert(1)' WHERE position = 0")
    text = render(bare, ["sandbox"])
    assert len(text.encode()) < LIMIT_BYTES
    return parse(text)


def test_the_page_shows_the_numbers_of_the_tables_and_no_code_of_servers(page: Element, target: Query) -> None:
    assert NUMBERS.keys() == {plot.id for plot in PLOTS}
    for id_, (heading, sql) in NUMBERS.items():
        (figure,) = page.all("figure", id=f"c1-{id_}")
        found = [number(row[heading]) for row in figure.table() if row[heading]]
        expected = [value for (value,) in target(sql)]
        assert expected, id_
        if id_ == "alerts":  # of tables with the same number, any is the tenth
            found = [sum(found, Decimal())]
        assert sorted(found) == sorted(expected), id_
        assert len(figure.all("svg")) == 2 and all(svg.all("path") for svg in figure.all("svg")), id_

    findings = target("SELECT object, remedy FROM quper.health_open")
    shown = page.shown().replace("\n-- ", " -- ")  # a comment has a line of its own
    assert findings and all(object_ in shown and (remedy or "") in shown for object_, remedy in findings)
    ((first, value),) = target(
        "SELECT object, value FROM quper.health_open ORDER BY severity_rank, priority DESC, since, object LIMIT 1"
    )
    worst = next(item for item in page.all("li") if "finding" in item.attributes.get("class", ""))
    assert first in worst.shown() and f"{value:,f}".rstrip("0").rstrip(".") in worst.shown()

    # Names of servers are text, in tables and in plots.
    assert not {element.tag for element in page.all()} & {"script", "img", "link", "iframe", "image", "foreignobject"}
    assert sum(HOSTILE in element.text for element in page.all("td")) > 3
    assert any(element.text.startswith("<script>") for element in page.all("text"))
    for element in page.all():
        for name, text in element.attributes.items():
            assert not name.startswith("on") and name not in ("src", "srcset", "xlink:href"), (element.tag, name)
            assert name != "href" or text.startswith(("#", "https://")), text
    assert not any("url(" in style.text or "@import" in style.text for style in page.all("style"))


def test_a_cluster_without_rows_has_a_page_that_says_so(clusters: Clusters) -> None:
    page = parse(render(clusters.postgres, ["nothing", "neither"]))
    assert len(page.all("h1")) == 2 and not page.all("svg")
    assert all(page.shown().count(plot.nothing) >= 2 for plot in PLOTS)
    assert "has not been evaluated" in page.shown()


def test_a_threshold_has_its_own_unit(clusters: Clusters) -> None:
    clusters.table(1, size_mb=77)
    clusters.insert("table_scan_stats", {"table_id": 2, "scan_hour": clusters.now - timedelta(days=40)})
    clusters.synced()
    clusters.evaluate()
    assert "77 MB (threshold 30 days) ·" in parse(render(clusters.postgres, ["sick"])).shown()


def test_a_missing_library_is_one_sentence(bare: PostgresResource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(SyncError, match=r"vl_convert.*pip install 'qupersync\[report\]'"):
        render(bare, ["sandbox"])
