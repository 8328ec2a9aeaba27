"""All jobs against a realistic source: every value is loaded, and a second run writes only new rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.expected_rows import ORACLES, oracle, plain
from qupersync_assets_tests.support.integration import LOG_COLUMNS, Query, Sync

# A job that a user adds has no expected rows; the other assertions are about it too.
KNOWN = [spec for spec in default_specs() if spec.table.name in ORACLES]


def test_every_value_is_loaded_and_only_new_rows_are_written(
    filled: Sandbox, sync: Sync, source: Query, target: Query
) -> None:
    assert sync().success
    before = {}
    for spec in KNOWN:
        expected, actual = oracle(spec, source, target)
        assert len(actual) > 1, spec.sync_job_id
        assert actual == expected, spec.sync_job_id
        before[spec.sync_job_id] = target(f"SELECT ctid, xmin FROM {spec.table.fullname} ORDER BY ctid")
    logs = target(f"SELECT sync_job_id, {LOG_COLUMNS} FROM quper.sync_logs ORDER BY sync_job_id")
    assert [row[0] for row in logs] == [spec.sync_job_id for spec in default_specs()]
    for _job, extracted, inserted, updated, unchanged, duplicates, skipped, batches, status in logs:
        assert status == "success"
        assert extracted == inserted and (updated, unchanged, duplicates, skipped) == (0, 0, 0, 0)
        assert batches == -(-extracted // 1000)

    second = sync()
    assert second.success
    for spec in KNOWN:
        after = target(f"SELECT ctid, xmin FROM {spec.table.fullname} ORDER BY ctid")
        assert after == before[spec.sync_job_id], f"{spec.sync_job_id} wrote unchanged rows"
    again = target(
        "SELECT sum(rows_inserted), sum(rows_updated), bool_and(rows_unchanged = rows_extracted) "
        "FROM quper.sync_logs WHERE run_id = %s",
        [second.run_id],
    )
    assert again == [(0, 0, True)]


HALF = "hashtext(v::text) & 1 = 0"
# Redshift deletes rows little by little. By tables: the views and which of their rows are deleted.
EXPIRED = {
    ("table_scan_stats", "query_metrics"): dict.fromkeys(("stl_scan", "sys_query_detail"), HALF),
    ("alert_events", "query_history", "vacuum_history"): {
        "stl_alert_event_log": HALF,
        **dict.fromkeys(("stl_scan", "stl_query", "sys_connection_log", "sys_vacuum_history"), "true"),
    },
}
# The largest table of the steps that are left may be another one.
VARYING = {"query_metrics": ["largest_table_id", "largest_table_name", "synced_at"]}


def test_what_redshift_deletes_changes_no_row(filled: Sandbox, sync: Sync, source: Query, target: Query) -> None:
    def rows(table: str) -> list[Any]:
        return plain(target(f"SELECT (to_jsonb(t) - %s::text[])::text FROM quper.{table} t", [VARYING.get(table, [])]))

    for tables, deleted in EXPIRED.items():
        assert sync(*tables).success
        before = {table: rows(table) for table in tables}
        for view, which in deleted.items():
            source(f"DELETE FROM {view} v WHERE {which}")
        target("UPDATE quper.sync_logs SET started_at = started_at - interval '1 day'")  # all rows are read again
        assert sync(*tables).success
        for table in tables:
            assert rows(table) == before[table], table


def test_new_rows_are_merged(filled: Sandbox, sync: Sync, source: Query, target: Query) -> None:
    at_work = "SELECT query_id FROM sys_query_history WHERE rtrim(status) = 'running' AND user_id <> 1"
    while not source(at_work):
        filled.workload().advance(datetime.now(UTC))
    assert sync().success
    running = target("SELECT query_id FROM quper.query_history WHERE status = 'running'")
    assert running
    for _ in range(5):
        filled.workload().advance(datetime.now(UTC))
    assert sync().success
    for spec in KNOWN:
        expected, actual = oracle(spec, source, target)
        assert set(expected) <= set(actual), spec.sync_job_id
    ended = target(
        "SELECT count(*) FROM quper.query_history WHERE query_id = ANY(%s) AND status <> 'running'",
        [[query_id for (query_id,) in running]],
    )
    assert ended[0][0] > 0


def test_vacuums_complete_table_stats_in_any_order(filled: Sandbox, sync: Sync, source: Query, target: Query) -> None:
    for first, last in (("table_stats", "vacuum_history"), ("vacuum_history", "table_stats")):
        target("DROP SCHEMA IF EXISTS quper CASCADE")
        assert sync(first).success
        assert sync(last).success
        rows = target("SELECT last_vacuum_date, vacuum_type FROM quper.table_stats")
        assert any(date is not None and kind is not None for date, kind in rows)
        expected, actual = oracle(next(s for s in default_specs() if s.table.name == "table_stats"), source, target)
        assert actual == expected
