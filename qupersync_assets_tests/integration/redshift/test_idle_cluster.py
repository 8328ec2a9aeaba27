"""A full read without rows says why: an idle or resumed cluster still has older rows."""

from __future__ import annotations

import pytest

from qupersync_assets_tests.support.integration import Materialize, Query, checks


def test_an_idle_cluster_is_distinguished_from_missing_privileges(
    materialize: Materialize, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster that was paused still has its old rows; rows of the sync itself are new."""
    for query, label, age in ((1, None, "9 days"), (2, None, "8 days"), (3, "qupersync", "1 minute")):
        source(
            "INSERT INTO sys_query_history (user_id, query_id, query_label, start_time) "
            "VALUES (100, %s, %s, date_trunc('day', getdate()) - %s::interval)", [query, label, age]
        )  # fmt: skip
    (newest,) = source(
        "SELECT to_char(max(start_time), 'YYYY-MM-DD HH24:MI:SS') FROM sys_query_history WHERE query_id = 2"
    )[0]
    found = {}
    for user, table in (("reader", "query_history"), ("ordinary", "query_history"), ("reader", "alert_events")):
        monkeypatch.setenv("REDSHIFT_USER", f"qupersync_{user}")
        result = materialize(table)
        assert result.success
        found[user, table] = str(checks(result, "sees_all_rows")[table].description)
        log = target("SELECT read_reason, rows_extracted FROM quper.sync_logs ORDER BY id DESC LIMIT 1")
        reason = found[user, table].partition("Nothing was read: ")[2]
        assert log == [(f"the target table is empty; {reason.rstrip('.')}", 0)]
    idle = f"older than 7 days, the newest is of {newest} UTC, since when the cluster was idle or paused."
    assert found["reader", "query_history"].endswith(idle)
    assert found["ordinary", "query_history"].endswith("sys_query_history shows no older rows either.")
    assert found["reader", "alert_events"].endswith("stl_alert_event_log shows no older rows either.")
