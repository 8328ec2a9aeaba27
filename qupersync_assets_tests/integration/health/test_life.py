"""The life of a finding: it appears, grows, is resolved, returns; and what must not resolve it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from qupersync_assets.health import all_signals
from qupersync_assets_tests.support.health import JOBS, Clusters

STATE = (
    "SELECT value_first::float, value_now::float, first_seen, opened_at, last_seen, resolved_at, episodes "
    "FROM quper.health_findings WHERE cluster = %s"
)
VERSIONS = "SELECT signal_id, object, ctid::text, xmin::text FROM quper.health_findings ORDER BY 1, 2"


def set_stats(clusters: Clusters, stats_off: float) -> None:
    clusters.target("UPDATE quper.table_stats SET stats_off_pct = %s WHERE cluster = 'sick'", [stats_off])


def tick(clusters: Clusters, later: timedelta, **sync: Any) -> None:
    """Sync and evaluate both clusters after some time."""
    clusters.now += later
    for cluster in ("sick", "well"):
        clusters.synced(cluster=cluster, **(sync if cluster == "sick" else {}))
        clusters.evaluate(cluster)


def test_a_finding_over_six_weeks(clusters: Clusters) -> None:
    week, minutes = timedelta(weeks=1), timedelta(minutes=5)
    clusters.table(1, stats_off_pct=20)
    clusters.table(1, "well", stats_off_pct=99)
    tick(clusters, week)
    first = clusters.now
    assert clusters.target(STATE, ["sick"]) == [(20, 20, first, first, None, None, 1)]
    set_stats(clusters, 30)
    tick(clusters, week)
    assert clusters.target(STATE, ["sick"]) == [(20, 30, first, first, None, None, 1)]
    tick(clusters, minutes)
    seen = clusters.now
    set_stats(clusters, 0)
    tick(clusters, week)
    fixed = clusters.now
    assert clusters.target(STATE, ["sick"]) == [(20, 30, first, first, seen, fixed, 1)]
    assert clusters.open("tables") == []
    tick(clusters, week)
    set_stats(clusters, 40)
    tick(clusters, week)
    again = clusters.now
    assert clusters.target(STATE, ["sick"]) == [(40, 40, first, again, None, None, 2)]
    clusters.target("UPDATE quper.table_stats SET removed_at = now() WHERE cluster = 'sick'")
    tick(clusters, week)
    [state] = clusters.target(STATE, ["sick"])
    assert state == (40, 40, first, again, again, clusters.now, 2)
    [(other, *_)] = clusters.target("SELECT opened_at, resolved_at FROM quper.health_findings WHERE cluster = 'well'")
    assert other == first and len(clusters.open("tables", "well")) == 1


def test_quiet_ticks_rewrite_no_finding(clusters: Clusters) -> None:
    for cluster in ("sick", "well"):
        for number in range(5):
            clusters.table(number, cluster, stats_off_pct=20 + number, skew_rows=9, diststyle="EVEN")
        clusters.queries(101, query_type="COPY", cluster=cluster)
    tick(clusters, timedelta(0))
    before = clusters.target(VERSIONS)
    signals = clusters.target("SELECT ctid::text, xmin::text FROM quper.health_signals ORDER BY cluster, signal_id")
    assert len(before) == 2 * (5 + 5 + 1)
    for later in (timedelta(minutes=5), timedelta(minutes=5), timedelta(hours=1), timedelta(hours=12)):
        tick(clusters, later)
    assert clusters.target(VERSIONS) == before
    after = clusters.target("SELECT ctid::text, xmin::text FROM quper.health_signals ORDER BY cluster, signal_id")
    assert after == signals
    [(last,)] = clusters.target("SELECT DISTINCT last_seen FROM quper.health_open")
    assert last == clusters.now


def test_an_idle_tick_is_skipped_and_says_so(clusters: Clusters) -> None:
    clusters.table(1, stats_off_pct=20)
    clusters.synced()
    assert clusters.evaluate().reason == ""
    clusters.now += timedelta(minutes=5)
    clusters.synced(written=0)
    clusters.synced(cluster="well")  # what another cluster has written is nothing new
    assert clusters.evaluate().reason.startswith("No row was written since the last evaluation, at ")
    assert clusters.evaluate(thresholds={"statistics_out_of_date": 30.0}).resolved == 1  # other settings
    clusters.now += timedelta(minutes=5)
    clusters.synced(written=1)
    assert clusters.evaluate().reason == ""
    clusters.now += timedelta(hours=1)  # what depends on the time may differ
    clusters.synced(written=0)
    assert clusters.evaluate().reason == ""


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("failed", "stale"),
        ("canceled", "stale"),
        ("unavailable", "no data"),
        ("partial", "evaluated"),
        ("running", "evaluated"),
    ],
)
def test_data_that_were_not_read_completely_resolve_nothing(clusters: Clusters, status: str, expected: str) -> None:
    clusters.synced(cluster="well")
    clusters.evaluate("well")
    clusters.now += timedelta(minutes=1)
    clusters.table(1, stats_off_pct=20)
    clusters.insert("node_details", {"node": 0, "used_mb": 60, "capacity_mb": 100})
    clusters.synced()
    clusters.evaluate()
    clusters.target("UPDATE quper.table_stats SET removed_at = now(); UPDATE quper.node_details SET used_mb = 45")
    clusters.now += timedelta(minutes=5)
    clusters.synced(*(job for job in JOBS if job != "table_stats_sync"))
    clusters.synced("table_stats_sync", status=status)
    evaluation = clusters.evaluate()
    assert evaluation.resolved == 1  # that of the node: a job that fails does not delay the findings of others
    assert len(clusters.open("tables")) == 1 and clusters.open("nodes") == []
    signal = evaluation.signals["statistics_out_of_date"]
    assert signal.status == expected
    assert signal.reason.startswith("The last sync of table_stats_sync was " if expected == "stale" else signal.reason)
    seen = clusters.target("SELECT last_seen FROM quper.health_open WHERE group_id = 'tables'")
    is_evaluated = expected == "evaluated"
    assert seen == [(clusters.now if is_evaluated else clusters.now - timedelta(minutes=5),)]
    clusters.now += timedelta(minutes=5)
    clusters.target("DELETE FROM quper.sync_logs WHERE status = 'running'")
    clusters.synced()
    assert clusters.evaluate().resolved == 1 and clusters.open("tables") == []
    [(last_seen,)] = clusters.target("SELECT last_seen FROM quper.health_findings WHERE signal_id LIKE 'stat%%'")
    assert last_seen == seen[0][0]


def test_a_signal_without_data_names_its_job(clusters: Clusters) -> None:
    on = [job for job in JOBS if job not in ("wlm_rules_sync", "load_errors_sync")]
    clusters.synced(*on)
    signals = clusters.evaluate(jobs_on=on, thresholds={"queueing": None}).signals
    assert signals.keys() == all_signals().keys()
    assert signals["load_errors"].reason == "load_errors_sync is off: add it to SYNC_JOBS."
    assert signals["no_monitoring_rules"].status == "no data" and signals["one_queue"].status == "evaluated"
    assert signals["queueing"].status == "off"
    assert (
        signals["node_generation"].status == "not available" and "DescribeClusters" in signals["node_generation"].reason
    )
    shown = clusters.target("SELECT status, reason FROM quper.health_signals WHERE signal_id = 'load_errors'")
    assert shown == [("no data", "load_errors_sync is off: add it to SYNC_JOBS.")]


def test_data_that_are_too_old_are_not_evaluated(clusters: Clusters) -> None:
    clusters.table(1, stats_off_pct=20)
    clusters.synced()
    clusters.evaluate()
    clusters.target("DELETE FROM quper.table_stats")
    clusters.now += timedelta(hours=2)
    clusters.synced("node_details_sync")
    signals = clusters.evaluate(fresh_within=timedelta(minutes=15)).signals
    assert signals["statistics_out_of_date"].status == "stale"
    assert "has not ended a sync within 0:15:00" in signals["statistics_out_of_date"].reason
    assert len(clusters.open("tables")) == 1
    daily = clusters.evaluate(fresh_within=timedelta(minutes=15), intervals={"table_stats_sync": 86400}).signals
    assert daily["statistics_out_of_date"].status == "evaluated"


def test_a_signal_that_is_switched_off_or_removed_has_no_open_finding(clusters: Clusters) -> None:
    clusters.table(1, stats_off_pct=20)
    clusters.synced()
    clusters.evaluate()
    clusters.target(
        "INSERT INTO quper.health_findings (cluster, signal_id, object, severity, first_seen, opened_at, changed_at) "
        "VALUES ('sick', 'of an earlier version', 'x', 'info', now(), now(), now())"
    )
    assert clusters.evaluate(thresholds={"statistics_out_of_date": None}).resolved == 2


def test_a_signal_that_fails_stops_no_other(clusters: Clusters, monkeypatch: pytest.MonkeyPatch) -> None:
    name = clusters.table(1, stats_off_pct=20, skew_rows=9, diststyle="EVEN")
    monkeypatch.setitem(all_signals()["statistics_out_of_date"].columns, "value", "1 / 0")
    clusters.synced()
    evaluation = clusters.evaluate()
    assert evaluation.signals["statistics_out_of_date"].status == "failed"
    assert evaluation.signals["statistics_out_of_date"].reason == "division by zero"
    assert clusters.open("tables") == [("large_table_with_skew", name, 9)]
