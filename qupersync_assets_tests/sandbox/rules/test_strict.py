"""Tests of the statement checks, without a server."""

from __future__ import annotations

import pytest

from qupersync_assets.sandbox.rules.dialect import Mode
from qupersync_assets.sandbox.rules.strict import State, refusal
from qupersync_assets.sandbox.rules.texts import statements

OPEN = State(in_transaction=True)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "BEGIN",
        "begin transaction",
        "COMMIT",
        "ROLLBACK",
        "CLOSE a",
        "SET timezone TO 'UTC'",
        "SET statement_timeout TO 300000",
        "SET query_group TO 'qupersync'",
        "SET enable_result_cache_for_session TO off",
        "FETCH FORWARD 1000 FROM a",
        "FETCH NEXT FROM a",
        "DELETE FROM stl_scan",
        "SELECT has_table_privilege('pg_catalog.pg_class', 'select'), current_user, current_database()",
        "SELECT superuser, syslog_access FROM svv_user_info WHERE user_name = current_user",
        "SELECT user_is_member_of(current_user, 'sys:monitor')",
        "SELECT relname FROM pg_catalog.pg_class WHERE relkind = 'r'::\"char\"",
        "SELECT usesuper FROM pg_user WHERE usename = current_user",
        "SELECT n FROM generate_series(1, 10) n",
        "WITH a(b) AS (SELECT 1), s AS (SELECT b FROM a) SELECT t.c FROM s t(c)",
        "SELECT listagg(event, ',') WITHIN GROUP (ORDER BY event) FROM stl_alert_event_log",
        "SELECT count(*) OVER (PARTITION BY a ORDER BY b), a::decimal(3, 2), b::character varying(10) FROM stl_scan",
        "SELECT CASE WHEN a IN (1) THEN 'now()' ELSE NULLIF(b, '') END, \"left\"(c, 1) FROM stl_scan -- now()",
        "",
    ],
)  # fmt: skip
def test_supported_statements_are_accepted(statement: str) -> None:
    assert all(refusal(statement, mode, OPEN) is None for mode in ("provisioned", "single-node"))


@pytest.mark.parametrize(
    ("sqlstate", "statement"),
    [
        ("42601", "SELEC 1"),
        ("42601", "SELECT 'a"),
        ("42601", "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING"),
        ("42601", "INSERT INTO t VALUES (1) RETURNING a"),
        ("42601", "SELECT 1 FROM t, LATERAL (SELECT 1) s"),
        ("42601", "SELECT DISTINCT ON (a) a FROM t"),
        ("42601", "SELECT count(*) FILTER (WHERE a) FROM t"),
        ("42601", "SELECT a FROM t FETCH FIRST 3 ROWS WITH TIES"),
        ("42601", "SELECT a FROM (VALUES (1)) t(a)"),
        ("42601", "SELECT ARRAY[1, 2]"),
        ("42601", "VALUES (1)"),
        ("42601", "COPY t TO STDOUT"),
        ("42704", "SELECT '{}'::jsonb"),
        ("42704", "SELECT CAST('x' AS uuid)"),
        ("42704", "CREATE TABLE t (a serial)"),
        ("42704", "SET work_mem TO '1GB'"),
        ("42883", "SELECT a ->> 'b' FROM t"),
        ("42883", "SELECT gen_random_uuid()"),
        ("42883", "SELECT to_regclass('t')"),
        ("42883", "SELECT string_agg(event, ',') FROM stl_alert_event_log"),
        ("42883", "SELECT array_agg(event) FROM stl_alert_event_log"),
        ("42883", "SELECT date_bin('1 hour', event_time, event_time) FROM stl_alert_event_log"),
        ("42883", "SELECT clock_timestamp()"),
        ("42883", "SELECT * FROM unnest('{1}') n"),
        ("0A000", "SELECT now() FROM stl_scan"),
        ("0A000", "EXPLAIN SELECT current_timestamp FROM sys_query_history"),
        ("0A000", "SELECT has_table_privilege(\"table\", 'select') FROM svv_table_info"),
        ("0A000", "SELECT has_table_privilege('stl_scan', 'select')"),
        ("0A000", "SELECT has_table_privilege('bartek', 'pg_catalog.SYS_QUERY_HISTORY', 'select') FROM pg_user"),
        ("0A000", "SELECT n FROM generate_series(1, 10) n, stl_scan"),
        ("0A000", "SELECT relname FROM pg_class JOIN stl_scan ON tbl = oid"),
        ("0A000", "SELECT listagg(relname) FROM pg_class"),
        ("0A000", "ROLLBACK TO SAVEPOINT a"),
        ("42703", "SELECT xmin FROM stl_scan"),
        ("42P01", "SELECT 1 FROM pg_stat_activity"),
        ("42P01", "SELECT 1 FROM redshift.stl_scan"),
        ("42P01", "SELECT compute_seconds FROM sys_serverless_usage"),
        ("42601", "FETCH BACKWARD 1 FROM a"),
        ("42601", "DECLARE a SCROLL CURSOR FOR SELECT 1"),
        ("0A000", "DECLARE a CURSOR FOR SELECT now() FROM stl_scan"),
        ("0A000", "DECLARE a CURSOR FOR SELECT 1 FROM stl_scan WHERE tbl = $1"),
    ],
)  # fmt: skip
def test_unsupported_statements_are_refused(sqlstate: str, statement: str) -> None:
    found = refusal(statement, "provisioned", OPEN)
    assert found is not None
    assert found.sqlstate == sqlstate


@pytest.mark.parametrize(
    ("statement", "serverless", "provisioned"),
    [
        ("WITH qupersync_stl_scan AS (SELECT tbl FROM stl_scan) SELECT tbl FROM qupersync_stl_scan", "42P01", ""),
        ("WITH stl_scan AS (SELECT tbl FROM stl_scan) SELECT tbl FROM stl_scan", "42P01", ""),
        ("WITH stl_scan AS (SELECT 1 AS tbl) SELECT tbl FROM stl_scan", "", ""),
        ("WITH a AS (SELECT 1 FROM stl_scan), stl_scan AS (SELECT 1) SELECT 1 FROM a, stl_scan", "42P01", ""),
        ("WITH stl_scan AS (SELECT 1), a AS (SELECT 1 FROM stl_scan) SELECT 1 FROM (SELECT 1 FROM a, stl_scan) b", "", ""),
        ("SELECT 1 FROM stl_scan, (WITH stl_scan AS (SELECT 1) SELECT 1 FROM stl_scan) a", "42P01", ""),
        ("WITH RECURSIVE stl_scan(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM stl_scan) SELECT n FROM stl_scan", "", ""),
        ("WITH a AS (SELECT tbl FROM stl_scan) SELECT now() FROM a", "42P01", "0A000"),
        ("WITH a AS (SELECT tbl FROM stl_scan), b AS (SELECT oid FROM pg_class) SELECT 1 FROM a JOIN b ON oid = tbl", "42P01", "0A000"),
    ],
)  # fmt: skip
def test_views_inside_ctes_are_checked(statement: str, serverless: str, provisioned: str) -> None:
    by_mode: dict[Mode, str] = {"serverless": serverless, "provisioned": provisioned}
    for mode, expected in by_mode.items():
        found = refusal(statement, mode, OPEN)
        assert (found.sqlstate if found else "") == expected


def test_fetch_limit_depends_on_mode() -> None:
    found = refusal("FETCH FORWARD 5000 FROM a", "single-node", OPEN)
    assert found is not None
    assert found.message.startswith("Fetch size 5000 exceeds the limit of 1000 for a single node configuration.")
    assert refusal("FETCH ALL FROM a", "single-node", OPEN)
    for statement in ("FETCH FORWARD 5000 FROM a", "FETCH ALL FROM a"):
        assert refusal(statement, "provisioned", OPEN) is None


def test_cursor_needs_transaction_and_no_open_cursor() -> None:
    state = State()
    declare = "DECLARE a CURSOR FOR SELECT 1"
    steps = [(declare, "25P01"), ("BEGIN", ""), (declare, ""), (declare, "24000"), ("CLOSE a", ""), (declare, ""),
             ("COMMIT", ""), (declare, "25P01")]  # fmt: skip
    for statement, expected in steps:
        found = refusal(statement, "provisioned", state)
        assert (found.sqlstate if found else "") == expected
        if not found:
            state.track(statement)


def test_text_is_split_into_statements() -> None:
    assert statements("BEGIN; DECLARE a CURSOR FOR SELECT ';' ;\n;FETCH 1 -- ;") == [
        "BEGIN", " DECLARE a CURSOR FOR SELECT ';' ", "FETCH 1 -- ;",
    ]  # fmt: skip
