"""Questions that no signal asks, from the tables of optional jobs: one SELECT each, as from Redshift's views."""

from __future__ import annotations

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.expected_rows import plain
from qupersync_assets_tests.support.integration import Query, Sync

# By question: SQL over the source, and SQL over the target.
QUESTIONS = {
    "a stale materialized view with its last refresh": (
        "SELECT rtrim(name), state, autorefresh IN ('t', '1'), (SELECT max(start_time) FROM sys_mv_refresh_history r "
        "WHERE r.schema_name = v.schema_name AND r.mv_name = v.name) FROM svv_mv_info v WHERE is_stale = 't'",
        "SELECT name, state, autorefresh, r.start_time FROM quper.materialized_views_current v LEFT JOIN LATERAL "
        "(SELECT start_time FROM quper.mv_refresh_history r WHERE r.cluster = v.cluster "
        "AND r.database_name = v.database_name AND r.schema_name = v.schema_name AND r.mv_name = v.name "
        "ORDER BY start_time DESC LIMIT 1) r ON true WHERE is_stale",
    ),
    "the last ANALYZE of each table": (
        "SELECT table_id, max(end_time) FROM sys_analyze_history WHERE rtrim(status) <> 'Skipped' GROUP BY 1",
        "SELECT table_id, max(end_time) FROM quper.analyze_history WHERE status <> 'Skipped' GROUP BY 1",
    ),
    "who waits for whom": (
        "SELECT w.pid, h.pid, w.relation FROM svv_transactions w JOIN svv_transactions h USING (relation) "
        "WHERE NOT w.granted AND h.granted AND w.pid <> h.pid",
        "SELECT w.session_id, h.session_id, table_id FROM quper.locks_current w JOIN quper.locks_current h "
        "USING (cluster, table_id) WHERE NOT w.granted AND h.granted AND w.session_id <> h.session_id",
    ),
}


def test_each_question_is_one_select(
    filled: Sandbox, sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_JOBS", ",".join(spec.sync_job_id for spec in all_specs() if spec.optional))
    assert sync().success
    for question, (expected, actual) in QUESTIONS.items():
        rows = target(actual)
        assert plain(rows) == plain(source(expected)) and rows, question
