"""Tests of the synthetic activity: reproducible, consistent and continued."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.spec.redshift_views import documented_views

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)
FILLED = [
    "svv_table_info", "stl_vacuum", "sys_vacuum_history", "sys_query_history", "stl_alert_event_log",
    "stv_node_storage_capacity", "svv_columns", "pg_attribute", "pg_class", "pg_namespace", "stl_scan",
    "sys_connection_log", "sys_query_detail", "svl_user_activity",
    # Of optional jobs.
    "svv_alter_table_recommendations", "sys_auto_table_optimization", "sys_load_history", "sys_load_detail",
    "sys_load_error_detail", "stl_load_errors", "svv_mv_info", "sys_mv_state", "sys_mv_refresh_history",
    "sys_analyze_history", "stl_analyze", "stv_wlm_service_class_config", "stv_wlm_classification_config",
    "stv_wlm_qmr_config", "sys_serverless_usage", "svv_transactions", "stv_slices",
]  # fmt: skip
RUNNING = "status IN ('planning', 'queued', 'running', 'returning')"

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def query(sandbox: Sandbox) -> Query:
    """Return a function that runs SQL in the warehouse, which is emptied first."""

    def run(statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with closing(sandbox.connect_redshift()) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    _empty(run)
    return run


def _empty(query: Query) -> None:
    tables = [*documented_views().keys() - {"svv_redshift_databases"}, "pg_class", "pg_namespace"]  # that is a view
    query("TRUNCATE " + ", ".join(f"redshift.{table}" for table in tables))


def _contents(query: Query) -> dict[str, list[tuple[Any, ...]]]:
    return {view: sorted(query(f"SELECT * FROM redshift.{view}"), key=repr) for view in FILLED}


def test_same_seed_and_times_write_same_rows(sandbox: Sandbox, query: Query) -> None:
    def fill(seed: int) -> dict[str, list[tuple[Any, ...]]]:
        _empty(query)
        sandbox.workload(seed).backfill(NOW, queries=300)
        for step in range(1, 6):
            sandbox.workload(seed).advance(NOW + timedelta(seconds=step * 30))
        return _contents(query)

    first, again, other = fill(1), fill(1), fill(2)
    assert first == again
    assert first != other
    assert all(first.values())


def test_backfill_fills_once_and_consistently(sandbox: Sandbox, query: Query) -> None:
    sandbox.workload().backfill(NOW)
    before = _contents(query)
    sandbox.workload().backfill(NOW)
    assert _contents(query) == before
    assert len(before["sys_query_history"]) == 3000
    assert query("SELECT count(*) FROM sys_query_history WHERE start_time < %s", [NAIVE - timedelta(days=7)]) == [(0,)]
    for orphans in (
        "SELECT 1 FROM svv_table_info t LEFT JOIN pg_class c ON c.oid = t.table_id WHERE c.relname IS DISTINCT FROM t.table",
        "SELECT 1 FROM pg_attribute a LEFT JOIN pg_class c ON c.oid = a.attrelid WHERE c.oid IS NULL",
        "SELECT 1 FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.oid IS NULL",
        "SELECT 1 FROM stl_scan s WHERE type = 2 AND tbl NOT IN (SELECT table_id FROM svv_table_info)",
        "SELECT query_id FROM sys_load_history EXCEPT SELECT query_id FROM sys_query_history WHERE query_type = 'COPY'",
        "SELECT query_id FROM sys_load_error_detail EXCEPT SELECT query_id FROM sys_load_history WHERE error_count > 0",
        "SELECT 1 FROM sys_query_history WHERE execution_time > elapsed_time OR end_time < start_time",
        "SELECT 1 FROM svv_table_info WHERE tbl_rows < estimated_visible_rows OR (sortkey1 IS NULL) <> (unsorted IS NULL)",
    ):
        assert query(orphans) == []
    # Line breaks are spelled as Redshift spells them.
    spelled = "position('\\n' IN query_text) > 0", "position(chr(10) IN query_text) > 0"
    assert query(f"SELECT bool_or({spelled[0]}), bool_or({spelled[1]}) FROM sys_query_history WHERE user_id = 1") == [
        (True, False)
    ]
    assert query("SELECT max(length(query_text)) FROM sys_query_history") == [(4000,)]


def test_advance_finishes_running_statements(sandbox: Sandbox, query: Query) -> None:
    workload = sandbox.workload()
    workload.backfill(NOW, queries=100)
    now = NOW
    while not (running := {row[0] for row in query(f"SELECT query_id FROM sys_query_history WHERE {RUNNING}")}):
        now += timedelta(seconds=5)
        workload.advance(now)
    workload.advance(now + timedelta(minutes=20))
    ended = query(
        f"SELECT query_id, end_time - start_time = elapsed_time * interval '1 microsecond', elapsed_time > 0 "
        f"FROM sys_query_history WHERE NOT {RUNNING} AND query_id = ANY(%s)",
        [list(running)],
    )
    assert {row[0] for row in ended} == running
    assert all(row[1] and row[2] for row in ended)


def test_vacuums_start_finish_and_are_skipped(sandbox: Sandbox, query: Query) -> None:
    workload = sandbox.workload()
    workload.backfill(NOW, queries=10)
    (before,) = query("SELECT max(eventtime) FROM stl_vacuum")[0]
    for step in range(1, 40):
        workload.advance(NOW + timedelta(minutes=step))
    words = {
        row[0]
        for row in query("SELECT DISTINCT substring(status from 'Started|Finished|Skipped|VacuumBG') FROM stl_vacuum")
    }
    assert words == {"Started", "Finished", "Skipped", "VacuumBG"}
    assert query(
        "SELECT count(*) > 0 FROM stl_vacuum WHERE status LIKE '%%Finished%%' AND eventtime > %s", [before]
    ) == [(True,)]
    assert (
        query("SELECT 1 FROM sys_vacuum_history WHERE (status = 'Complete') AND (end_time IS NULL OR duration < 0)")
        == []
    )


def test_new_workload_continues_ids(sandbox: Sandbox, query: Query) -> None:
    sandbox.workload().backfill(NOW, queries=200)
    numbers = {
        "sys_query_history": "query_id",
        "sys_connection_log": "session_id",
        "stl_scan": "query",
        "stl_vacuum": "xid",
    }
    last = {view: query(f"SELECT max({column}) FROM {view}")[0][0] for view, column in numbers.items()}
    for minute in range(1, 40):
        sandbox.workload(seed=99).advance(NOW + timedelta(minutes=minute))
    for view, column in numbers.items():
        assert query(f"SELECT max({column}) > %s FROM {view}", [last[view]]) == [(True,)]
    later = "SELECT count(*) FROM sys_query_history WHERE query_id <= %s AND start_time > %s"
    assert query(later, [last["sys_query_history"], NOW]) == [(0,)]
    assert query("SELECT query_id FROM sys_query_history GROUP BY 1 HAVING count(*) > 1") == []


def test_rows_expire_after_seven_days(sandbox: Sandbox, query: Query) -> None:
    workload = sandbox.workload()
    workload.backfill(NOW, queries=300)
    later = NAIVE + timedelta(days=3)
    workload.advance(later)
    oldest = query(
        "SELECT (SELECT min(start_time) FROM sys_query_history), (SELECT min(event_time) FROM stl_alert_event_log), "
        "(SELECT min(endtime) FROM stl_scan WHERE endtime > '2000-01-01'), (SELECT min(eventtime) FROM stl_vacuum), "
        "(SELECT min(record_time) FROM sys_connection_log)"
    )[0]
    limit = later - timedelta(days=7)
    assert all(limit <= moment < limit + timedelta(days=1) for moment in oldest)


def test_bulk_queries_are_added(sandbox: Sandbox, query: Query) -> None:
    workload = sandbox.workload()
    workload.backfill(NOW, queries=50)
    workload.bulk_queries(5000, NOW)
    workload.bulk_queries(1000, NOW)
    assert query("SELECT count(*), count(DISTINCT query_id) FROM sys_query_history") == [(6050, 6050)]
    assert (
        query(
            "SELECT 1 FROM sys_query_history WHERE start_time NOT BETWEEN %s AND %s", [NAIVE - timedelta(days=7), NAIVE]
        )
        == []
    )


def test_problems_are_added_once_to_what_is_healthy(sandbox: Sandbox, query: Query) -> None:
    large = "FROM svv_table_info WHERE tbl_rows > 5000000 AND "
    problems = [
        f"SELECT 1 {large} sortkey1 IS NULL",
        f"SELECT 1 {large} sortkey1 = 'INTERLEAVED'",
        f"SELECT 1 {large} skew_rows >= 4",
        f"SELECT 1 {large} vacuum_sort_benefit >= 10",
        f"SELECT 1 {large} tbl_rows > 1.1 * estimated_visible_rows",
        f"SELECT 1 {large} diststyle = 'KEY(created_at)'",
        f"SELECT 1 {large} sortkey1_enc <> 'none'",
        "SELECT 1 FROM svv_table_info WHERE stats_off > 10",
        "SELECT 1 FROM svv_table_info WHERE tbl_rows <= 5000000 AND diststyle NOT SIMILAR TO '(AUTO|ALL)%%'",
        "SELECT 1 FROM svv_table_info WHERE tbl_rows <= 5000000 AND sortkey1 NOT LIKE 'AUTO%%'",
        "SELECT 1 FROM stv_node_storage_capacity WHERE used > 0.7 * capacity",
        "SELECT 1 FROM stl_vacuum WHERE status = 'Failed' GROUP BY table_id HAVING count(*) > 3",
        "SELECT 1 FROM sys_query_history WHERE error_message LIKE '%%v_revenue_net%%' LIMIT 1",
        *(
            f"SELECT 1 FROM sys_query_history GROUP BY date_trunc('hour', start_time), service_class_id HAVING {condition}"
            for condition in (
                "count(*) FILTER (WHERE query_type = 'COPY') > 100",
                "count(*) FILTER (WHERE query_type = 'INSERT') > 100",
                "sum(queue_time) > 0.4 * sum(elapsed_time)",
                "sum(elapsed_time) FILTER (WHERE compute_type <> 'primary') > 600e6",
            )
        ),
        "SELECT 1 FROM sys_query_detail WHERE spilled_block_local_disk > 0 GROUP BY date_trunc('hour', start_time) HAVING count(*) > 200",
        "SELECT 1 FROM sys_query_detail WHERE alert LIKE 'Nested Loop%%' AND duration > 600e6 LIMIT 1",
        "SELECT 1 FROM svv_table_info WHERE table_id NOT IN (SELECT tbl FROM stl_scan)",
    ]
    workload = sandbox.workload()
    workload.backfill(NOW, queries=2000)
    assert [problem for problem in problems[:-2] if query(problem)] == []
    query("DELETE FROM svv_table_info WHERE schema = 'staging' RETURNING 1")  # these tables may be empty
    workload.add_problems(NOW)
    assert [problem for problem in problems if len(query(problem)) != 1] == []
    before = _contents(query)
    workload.add_problems(NOW)
    assert _contents(query) == before


def test_views_that_the_workload_does_not_know_get_rows_once(sandbox: Sandbox, query: Query) -> None:
    sandbox.workload().backfill(NOW, queries=50)
    before = _contents(query)
    filled = sandbox.workload().fill_other_views(NOW)
    assert "stv_sessions" in filled and not set(filled) & set(FILLED)
    rows = query("SELECT starttime, process, user_name, timeout_sec FROM redshift.stv_sessions ORDER BY process")
    assert rows[-1][0] == NAIVE and rows[0][2].strip() == "user_name_1" and rows[-1][3] == len(rows) == 20
    assert _contents(query) == before
    assert sandbox.workload().fill_other_views(NOW) == []
