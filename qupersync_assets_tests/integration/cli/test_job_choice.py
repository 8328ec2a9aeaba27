"""A job that is switched on, off, or on in one of two clusters."""

from __future__ import annotations

import pytest

from qupersync_assets.spec import SyncSpec
from qupersync_assets_tests.integration.monitoring.test_metrics import samples, serving
from qupersync_assets_tests.support.integration import Command, Query

CREATED = "SELECT to_regclass('quper.user_sessions') IS NOT NULL"


@pytest.fixture
def sessions(source: Query, optional_job: SyncSpec) -> SyncSpec:
    """An optional job whose source has two rows."""
    source("INSERT INTO stv_sessions VALUES (now(), 1, 'anna', 'dev', 0), (now(), 2, 'anna', 'dev', 9)")
    return optional_job


def test_a_job_that_is_switched_off_keeps_its_rows_and_is_not_stale(
    qupersync: Command, target: Query, monkeypatch: pytest.MonkeyPatch, sessions: SyncSpec
) -> None:
    refused = qupersync("sync", "user_session_sync")
    assert refused.code == 2 and "user_session_sync is off: add it to SYNC_JOBS" in refused.err
    assert qupersync("sync", "node_details").code == 0
    assert target(CREATED) == [(False,)]
    assert "user_session_sync" not in qupersync("status").out
    monkeypatch.setenv("SYNC_JOBS", "user_session_sync,node_details_sync")
    assert {job["sync_job_id"]: job["status"] for job in qupersync("status", "--json").json["jobs"]}[
        "user_session_sync"
    ] == "never"
    assert (done := qupersync("sync")).code == 0, done.out
    assert target("SELECT process FROM quper.user_sessions_current ORDER BY 1") == [(1,), (2,)]
    target("UPDATE quper.sync_logs SET status = 'failed', error = 'broken' WHERE sync_job_id = 'user_session_sync'")
    assert "broken" in qupersync("status").out
    monkeypatch.setenv("SYNC_JOBS", "default")
    [off] = [job for job in qupersync("status", "--json").json["jobs"] if job["sync_job_id"] == "user_session_sync"]
    assert off["status"] == "off (SYNC_JOBS)" and off["next_run"] is None and off["last_run"]["status"] == "failed"
    shown = qupersync("status").out
    assert "off (SYNC_JOBS)" in shown and "broken" not in shown
    assert qupersync("history", "--job", "user_session_sync", "--json").json[0]["error"] == "broken"
    assert target("SELECT count(*) FROM quper.user_sessions") == [(2,)]
    with serving() as base:
        jobs = {dict(labels).get("sync_job") for _, labels in samples(base)}
    assert "node_details_sync" in jobs and "user_session_sync" not in jobs


def test_a_job_that_is_off_in_one_of_two_clusters_connects_to_the_other_only(
    two_clusters: None, qupersync: Command, target: Query, monkeypatch: pytest.MonkeyPatch, sessions: SyncSpec
) -> None:
    monkeypatch.setenv("REDSHIFT_SOUTH_PORT", "1")  # nothing listens there
    monkeypatch.setenv("REDSHIFT_NORTH_SYNC_JOBS", "default,user_session_sync")
    done = qupersync("sync", "user_session_sync")
    assert done.code == 0, done.err
    [north, south] = target("SELECT cluster, status, rows_inserted, error FROM quper.sync_logs ORDER BY cluster")
    assert north == ("north", "success", 2, None)
    assert south[:3] == ("south", "unavailable", 0) and "SYNC_JOBS" in south[3]
    states = {
        job["cluster"]: job["status"]
        for job in qupersync("status", "--json").json["jobs"]
        if job["sync_job_id"] == "user_session_sync"
    }
    assert states == {"north": "success", "south": "off (SYNC_JOBS)"}
    assert qupersync("sync", "node_details", "--cluster", "south").code == 1  # the port is closed
