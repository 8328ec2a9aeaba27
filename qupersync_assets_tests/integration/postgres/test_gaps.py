"""A load after a pause that is longer than Redshift's retention reports the gap."""

from __future__ import annotations

import dagster as dg
import pytest

from qupersync_assets_tests.support.integration import Query, Sync, checks


@pytest.mark.parametrize(("pause", "lost"), [("8 days", True), ("6 days 23 hours", False)])
def test_a_pause_beyond_the_retention_is_a_gap(sync: Sync, target: Query, pause: str, lost: bool) -> None:
    first = sync("query_history", "node_details")
    assert all(check.passed for check in checks(first, "no_gap").values())
    target("UPDATE quper.sync_logs SET started_at = started_at - %s::interval", [pause])
    ((last,),) = target("SELECT started_at FROM quper.sync_logs WHERE sync_job_id = 'query_history_sync'")
    back = sync("query_history", "node_details")
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
        assert gaps[0][0] == last and 86_000 < (gaps[0][1] - last).total_seconds() < 87_000
        assert check.metadata["gap_seconds"].value == round((gaps[0][1] - last).total_seconds())
    else:
        assert gaps == [(None, None)]
    assert all(check.passed for check in checks(sync("query_history"), "no_gap").values())


def test_the_gap_starts_at_the_last_success(sync: Sync, target: Query) -> None:
    assert sync("query_history").success
    target("UPDATE quper.sync_logs SET started_at = started_at - interval '9 days'")
    assert sync("query_history").success
    target("UPDATE quper.sync_logs SET status = 'failed' WHERE started_at > now() - interval '1 day'")
    (check,) = checks(sync("query_history"), "no_gap").values()
    assert not check.passed
