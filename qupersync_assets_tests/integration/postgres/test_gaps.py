"""A load reports the time whose rows are lost, because Redshift deletes rows after seven days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from qupersync_assets_tests.support.integration import Materialize, Query, checks


@pytest.mark.parametrize(("pause", "lost"), [("8 days", True), ("7 days 1 hour", True), ("6 days 23 hours", False)])
def test_a_pause_beyond_the_retention_is_a_gap(materialize: Materialize, target: Query, pause: str, lost: bool) -> None:
    first = materialize("query_history", "node_details")
    assert all(check.passed for check in checks(first, "no_gap").values())
    target("UPDATE quper.sync_logs SET started_at = started_at - %s::interval", [pause])
    ((last,),) = target("SELECT started_at FROM quper.sync_logs WHERE sync_job_id = 'query_history_sync'")
    back = materialize("query_history", "node_details")
    assert back.success
    (check,) = checks(back, "no_gap").values()
    assert check.asset_key == dg.AssetKey(["quper", "query_history"])
    assert check.passed != lost
    gaps = target(
        "SELECT gap_from, gap_to FROM quper.sync_logs WHERE run_id = %s AND sync_job_id = 'query_history_sync'",
        [back.run_id],
    )
    if lost:
        assert check.severity == dg.AssetCheckSeverity.WARN
        assert last.strftime("%Y-%m-%d %H:%M:%S") in str(check.description)
        assert gaps[0][0] == last and (gaps[0][1] - last).total_seconds() >= (86_400 if pause == "8 days" else 3600)
        assert check.metadata["gap_seconds"].value == round((gaps[0][1] - last).total_seconds())
    else:
        assert gaps == [(None, None)]
    assert all(check.passed for check in checks(materialize("query_history"), "no_gap").values())


def test_the_gap_starts_at_the_last_success(materialize: Materialize, target: Query) -> None:
    assert materialize("query_history").success
    target("UPDATE quper.sync_logs SET started_at = started_at - interval '9 days'")
    assert materialize("query_history").success
    target("UPDATE quper.sync_logs SET status = 'failed' WHERE started_at > now() - interval '1 day'")
    (check,) = checks(materialize("query_history"), "no_gap").values()
    assert not check.passed


QUERY = "INSERT INTO sys_query_history (user_id, query_id, status, start_time) VALUES (100, %s, 'success', %s)"


def days_ago(days: float) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)


def test_rows_that_redshift_kept_for_longer_are_read_and_not_reported_as_lost(
    materialize: Materialize, source: Query, target: Query
) -> None:
    source(QUERY, [1, days_ago(10)])
    assert materialize("query_history").success
    target("UPDATE quper.query_history SET cluster = 'other'")  # the first read covers seven days, and left it out
    target(
        "INSERT INTO quper.query_history (cluster, query_id, status, start_time) VALUES ('sandbox', 1, 'success', %s)",
        [days_ago(10)],
    )
    target("UPDATE quper.sync_logs SET started_at = started_at - interval '238 hours'")
    for query_id, age in ((2, 9), (3, 8), (4, 1)):
        source(QUERY, [query_id, days_ago(age)])
    back = materialize("query_history")
    assert target("SELECT query_id FROM quper.query_history WHERE cluster = 'sandbox' ORDER BY 1") == [
        (n,) for n in (1, 2, 3, 4)
    ]
    assert target("SELECT read_mode, read_from, gap_from FROM quper.sync_logs ORDER BY id DESC LIMIT 1") == [
        ("full", None, None)
    ]
    assert all(check.passed for check in checks(back, "no_gap").values())


def test_a_gap_ends_at_the_oldest_row_that_redshift_kept(
    materialize: Materialize, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_BATCH_SIZE", "1")  # the oldest row is in neither the first nor the last page
    assert materialize("query_history").success
    target("UPDATE quper.sync_logs SET started_at = started_at - interval '10 days'")
    kept = days_ago(8)
    # An unfinished query is listed for longer than others.
    target(
        "INSERT INTO quper.query_history (cluster, query_id, status, start_time) "
        "VALUES ('sandbox', 1, 'running', %s), ('sandbox', 2, 'success', %s)",
        [days_ago(30), days_ago(11)],
    )
    source(QUERY, [1, days_ago(30)])
    for query_id, time in ((3, kept), (4, days_ago(1))):
        source(QUERY, [query_id, time])
    (check,) = checks(materialize("query_history"), "no_gap").values()
    assert not check.passed and f"to {kept:%Y-%m-%d %H:%M:%S} UTC are lost" in str(check.description)


@pytest.mark.parametrize("restored", [True, False], ids=["restored", "idle"])
def test_a_restored_table_has_a_gap_and_an_idle_cluster_has_none(
    materialize: Materialize, source: Query, target: Query, restored: bool
) -> None:
    assert materialize("query_history").success
    rows = "INSERT INTO quper.query_history (cluster, query_id, start_time, status) VALUES (%s, %s, %s, 'success')"
    for cluster, query_id, age in (("sandbox", 1, 20), ("sandbox", 2, 9), ("other", 3, 1)):
        target(rows, [cluster, query_id, days_ago(age)])
    (idle,) = checks(materialize("query_history"), "no_gap").values()
    assert idle.passed
    if restored:
        target("DELETE FROM quper.query_history WHERE query_id = 2")
    (check,) = checks(materialize("query_history"), "no_gap").values()
    assert check.passed != restored
    gap = "SELECT gap_from = (SELECT start_time FROM quper.query_history WHERE query_id = 1) FROM quper.sync_logs"
    assert target(f"{gap} ORDER BY id DESC LIMIT 1") == [(True if restored else None,)]
    (check,) = checks(materialize("query_history"), "no_gap").values()
    assert check.passed  # it is reported once
