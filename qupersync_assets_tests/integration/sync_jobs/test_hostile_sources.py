"""Hostile rows in every source: each valid row is loaded unchanged, each invalid one is recorded, the counts balance."""

from __future__ import annotations

import dagster as dg
import pytest

from qupersync_assets_tests.support.integration import Materialize, Query

# What quotes, escapes or formats somewhere: in SQL, psycopg2, SQLAlchemy, str.format, COPY.
TEXT = "'\"; drop table x; -- \\N \\t Robert''); DROP TABLE x;-- %s %(a)s %% :name {braces} {0} $1 $$' || chr(9) || chr(10) || 'ünï 漢字 😀 \u202eשלום '"

ROWS = [
    # table_stats: good, good, NaN, no key
    f"""INSERT INTO svv_table_info ("database", "schema", table_id, "table", tbl_rows, estimated_visible_rows, pct_used)
        VALUES ('d', {TEXT}, 4294967295, {TEXT}, 99999999999999999999999999999999999999, 0, 1),
               ('d', 's', 1, 't', 0, 5, NULL), ('d', 's', 2, 't', 1, 1, 'NaN'), ('d', 's', NULL, 't', 1, 1, 1)""",
    # vacuum_history: good, no status, infinite time, good
    f"""INSERT INTO stl_vacuum (xid, table_id, status, eventtime, rows)
        VALUES (9223372036854775807, 1, 'Finished', getdate(), -9223372036854775808),
               (1, 1, NULL, getdate(), 1), (2, 1, {TEXT[:20]}', 'infinity', 1), (3, 1, left({TEXT}, 30), getdate(), 1)""",
    # query_history: good
    f"""INSERT INTO sys_query_history (user_id, query_id, status, start_time, username, database_name, query_label, query_text)
        VALUES (100, 1, 'success', getdate(), {TEXT}, {TEXT}, {TEXT}, {TEXT})""",
    # alert_events: good twice over two slices, no query, no event, infinite time
    f"""INSERT INTO stl_alert_event_log (userid, query, slice, segment, step, pid, xid, event, event_time)
        VALUES (100, 1, 0, 0, 0, 5, 1, {TEXT}, getdate()), (100, 1, 1, 0, 0, 6, 1, {TEXT}, getdate()),
               (100, NULL, 0, 0, 0, 5, 1, 'e', getdate()), (100, 2, 0, 0, 0, 5, 1, NULL, getdate()),
               (NULL, 3, 0, 0, 0, 5, 1, 'e', 'infinity')""",
    # column_stats: good, no name
    f"""INSERT INTO svv_columns (table_catalog, table_schema, table_name, column_name, ordinal_position)
        VALUES ('d', {TEXT}, {TEXT}, {TEXT}, 2147483647), ('d', NULL, 't', 'c', 1)""",
    # table_scan_stats: good over two slices, no table, no time, beyond bigint when added up
    """INSERT INTO stl_scan (userid, query, slice, segment, step, tbl, type, rows, bytes, starttime, endtime, is_rrscan)
        VALUES (100, 1, 0, 0, 0, 7, 2, 9223372036854775807, 1, '2026-01-01 00:59:59', '2026-01-01 01:00:01', 't'),
               (100, 1, 1, 0, 0, 7, 2, 9223372036854775807, 1, '2026-01-01 01:00:00', '2026-01-01 01:00:02', 't'),
               (100, 2, 0, 0, 0, NULL, 2, 1, 1, '2026-01-01', '2026-01-01', 'f'),
               (100, 3, 0, 0, 0, 8, 2, 1, 1, NULL, NULL, 'f'),
               (100, 4, 0, 0, 0, 9, 2, 1, 1, '2026-01-01', 'infinity', 'f')""",
    # query_metrics: good over two steps beyond bigint when added up, infinite time
    f"""INSERT INTO sys_query_detail (user_id, query_id, step_id, step_name, table_id, table_name, input_rows, start_time)
        VALUES (100, 1, 0, 'scan', 7, left({TEXT}, 136), 9223372036854775807, getdate()),
               (100, 1, 1, 'scan', 7, left({TEXT}, 136), 9223372036854775807, getdate()),
               (100, 2, 0, 'scan', 7, 't', 1, 'infinity')""",
    # applications: good, no user; a blank name is no application
    f"""INSERT INTO sys_connection_log (application_name, user_name, database_name, record_time, session_id)
        VALUES ({TEXT}, left({TEXT}, 50), left({TEXT}, 50), getdate(), 1), ('app', NULL, 'd', getdate(), 2), ('  ', 'u', 'd', getdate(), 3)""",
]


def test_hostile_rows_of_every_source_are_loaded_or_skipped(
    materialize: Materialize, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = source(f"SELECT {TEXT}")[0][0]
    monkeypatch.setenv("CLUSTER_NAME", text)
    for statement in ROWS:
        source(statement)
    result = materialize()
    assert result.success
    logs = target(
        "SELECT sync_job_id, rows_extracted, rows_inserted, rows_skipped, "
        "rows_extracted = rows_upserted + rows_duplicate + rows_skipped FROM quper.sync_logs ORDER BY 1"
    )
    assert logs == [
        ("alert_events_sync", 4, 1, 3, True),
        ("application_sync", 2, 1, 1, True),
        ("column_stats_sync", 2, 1, 1, True),
        ("node_details_sync", 0, 0, 0, True),
        ("query_history_sync", 1, 1, 0, True),
        ("query_metrics_sync", 2, 1, 1, True),
        ("scan_stats_sync", 4, 1, 3, True),
        ("table_stats_sync", 4, 2, 2, True),
        ("vacuum_history_sync", 4, 2, 2, True),
    ]
    assert target("SELECT count(*), count(column_name) FROM quper.skipped_rows") == [(13, 13)]

    assert target("SELECT schema, table_name, table_id FROM quper.table_stats WHERE table_id > 1") == [
        (text, text, 4294967295)
    ]
    assert target(
        "SELECT tbl_rows = 10::numeric ^ 38 - 1, pct_rows_marked_for_deletion FROM quper.table_stats ORDER BY table_id"
    ) == [(False, None), (True, 100)]
    assert target("SELECT rtrim(event) = event, event, slices, occurrences FROM quper.alert_events") == [
        (True, text.rstrip(" "), 2, 2)
    ]
    assert target("SELECT table_schema, ordinal_position FROM quper.column_stats") == [(text, 2**31 - 1)]
    assert target(
        "SELECT table_id, extract(hour FROM scan_hour)::int, scans, queries, rows, range_restricted_scans "
        "FROM quper.table_scan_stats"
    ) == [(7, 0, 1, 1, 2 * (2**63 - 1), 1)]
    assert target("SELECT rows_scanned, largest_table_name FROM quper.query_metrics") == [
        (2 * (2**63 - 1), text.rstrip(" "))
    ]
    names = "SELECT application_name, user_name, database_name FROM quper.applications"
    assert target(names) == [(text.rstrip(" "), text[:50].rstrip(" "), text[:50].rstrip(" "))]
    names = "SELECT user_name, database_name, query_label, query_text FROM quper.query_history"
    assert target(names) == [(text.rstrip(" "),) * 4]
    assert target("SELECT status FROM quper.vacuum_history WHERE xid = 3") == [(text[:30].rstrip(" "),)]
    for table in ("sync_logs", "skipped_rows", "table_stats", "applications"):
        assert target(f"SELECT DISTINCT cluster FROM quper.{table}") == [(text,)]
    assert source("SELECT current_user") and materialize().success  # once more, and nothing was dropped
    evaluations = result.get_asset_check_evaluations()
    checks = {c.asset_key.path[-1]: c for c in evaluations if c.check_name == "no_skipped_rows"}
    assert [name for name, check in sorted(checks.items()) if check.passed] == ["node_details", "query_history"]
    assert checks["table_stats"].severity == dg.AssetCheckSeverity.ERROR
