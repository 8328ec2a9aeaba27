"""Tests of the modes through the driver: existing views, and Redshift's errors."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.rules.dialect import MODES, Mode, availability
from qupersync_assets.sandbox.warehouse.databases import create_warehouse
from qupersync_assets.spec import select_statement
from qupersync_assets.spec.redshift_views import documented_views
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.sandbox.conftest import Connect, refused, rows

IN_CATALOG = """
SELECT c.relname FROM {0}pg_class c JOIN {0}pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'pg_catalog' AND c.relname IN ('{1}')"""
VIEWS = [*documented_views(), "svl_user_activity", "svv_user_info", "svv_user_grants", "svl_qlog"]


@pytest.mark.parametrize("lists_absent", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_catalog_and_queries_agree_on_views(connect: Connect, mode: Mode, lists_absent: bool) -> None:
    connection = connect(mode, lists_absent=lists_absent)
    statement = IN_CATALOG.format("pg_catalog.", "', '".join(VIEWS))
    listed = {name for (name,) in rows(connection, statement)}
    for view in VIEWS:
        state = availability(view, mode, lists_absent)
        assert (view in listed) == (state != "absent"), view
        if state == "readable":
            assert rows(connection, f"SELECT count(*) >= 0 FROM {view}") == [[True]]
        else:
            message = f'relation "{view}" does not exist'
            expected = {"absent": ("42P01", message), "denied": ("42501", f"permission denied for relation {view}")}
            assert refused(connection, f"SELECT 1 FROM {view}") == expected[state]
    columns = rows(
        connection,
        "SELECT a.attname, a.atttypid::bigint FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relname = 'sys_query_history' AND a.attnum > 0 AND a.attisdropped = false ORDER BY a.attnum",
    )
    assert [name for name, _ in columns] == [c[0] for c in documented_views()["sys_query_history"]["columns"]]
    assert columns[1][1] == 20


@pytest.mark.parametrize(
    ("mode", "lists_absent", "view", "expected"),
    [
        ("provisioned", False, "stl_scan", "readable"),
        ("provisioned", False, "sys_serverless_usage", "absent"),
        ("provisioned", True, "sys_serverless_usage", "denied"),
        ("serverless", False, "stl_scan", "absent"),
        ("serverless", True, "stl_scan", "denied"),
        ("serverless", True, "svv_table_info", "readable"),
        ("multi-az", False, "stv_node_storage_capacity", "denied"),
        ("multi-az", False, "svv_table_info", "readable"),
        ("multi-az", False, "svl_user_activity", "readable"),
        ("multi-az", True, "svl_qlog", "absent"),
    ],
)
def test_availability_of_views(mode: Mode, lists_absent: bool, view: str, expected: str) -> None:
    assert availability(view, mode, lists_absent) == expected


def test_column_stats_are_equal_through_gateway(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.workload().backfill(datetime.now(UTC), queries=1)
    (spec,) = [spec for spec in all_specs() if spec.sync_job_id == "column_stats_sync"]
    (variant,) = spec.variants
    statement = select_statement(spec, variant)
    with closing(sandbox.connect_redshift()) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        expected = sorted(map(repr, map(list, cursor.fetchall())))
    assert len(expected) > 100
    assert sorted(map(repr, rows(connect(), statement))) == expected


def test_user_activity_is_optional(sandbox: Sandbox, connect: Connect) -> None:
    environment = sandbox.environment()
    passwords = environment["REDSHIFT_PASSWORD"], environment["POSTGRES_PASSWORD"]
    create_warehouse(sandbox.server, *passwords, database="plain", target="other", user_activity=False)
    connection = connect(database="plain")
    assert refused(connection, "SELECT 1 FROM svl_user_activity")[0] == "42P01"
    assert rows(connection, IN_CATALOG.format("", "svl_user_activity")) == []
    create_warehouse(sandbox.server, *passwords, database="plain", target="other")
    assert rows(connection, "SELECT application_name FROM svl_user_activity") == []


def test_refused_statement_fails_transaction(connect: Connect) -> None:
    connection = connect()
    connection.autocommit = False
    assert refused(connection, "SELECT now() FROM stl_scan") == (
        "0A000",
        "Specified types or functions (one per INFO message) not supported on Redshift tables.",
    )
    assert refused(connection, "SELECT 1")[0] == "25P02"
    connection.rollback()
    assert rows(connection, "SELECT 1") == [[1]]
    assert refused(connection, "SELECT slices FROM stl_scan") == ("42703", 'column "slices" does not exist')


def test_prepared_statements_open_one_cursor_at_a_time(connect: Connect) -> None:
    connection = connect()
    declare = "DECLARE one CURSOR FOR SELECT n FROM generate_series(1, 9) n"
    assert refused(connection, declare)[0] == "25P01"
    connection.autocommit = False
    for _ in range(2):  # the driver prepares statements once
        rows(connection, declare)
        assert rows(connection, "FETCH FORWARD 2 FROM one") == [[1], [2]]
        assert refused(connection, declare)[0] == "24000"
        connection.rollback()
    rows(connection, declare)
    rows(connection, "CLOSE one")
    rows(connection, declare)
    assert refused(connection, "FETCH BACKWARD 1 FROM one")[0] == "42601"


def test_bound_parameters_are_allowed_in_queries_only(connect: Connect) -> None:
    connection = connect()
    connection.autocommit = False
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM stl_scan WHERE tbl = %s AND type > %s", (1, 10**6))
        assert cursor.fetchone() == [0]
        with pytest.raises(Exception, match="does not take bound parameters"):
            cursor.execute("DECLARE a CURSOR FOR SELECT 1 FROM stl_scan WHERE tbl = %s AND type < %s", (None, "1"))


def test_single_node_limits_fetch_size(connect: Connect) -> None:
    for mode, expected in (("single-node", "0A000"), ("provisioned", "")):
        connection = connect(mode)
        connection.autocommit = False
        rows(connection, "DECLARE a CURSOR FOR SELECT n FROM generate_series(1, 1500) n")
        assert len(rows(connection, "FETCH FORWARD 1000 FROM a")) == 1000
        if expected:
            assert refused(connection, "FETCH FORWARD 1001 FROM a")[0] == expected
        else:
            assert len(rows(connection, "FETCH FORWARD 1001 FROM a")) == 500


def test_redshift_settings_are_accepted(connect: Connect) -> None:
    connection = connect()
    for setting in ("query_group TO 'a''b'", "enable_result_cache_for_session = off", "timezone TO 'UTC'"):
        rows(connection, f"SET {setting}")
    rows(connection, "SET statement_timeout TO 60000")
    assert refused(connection, "SET work_mem TO '1GB'")[0] == "42704"
    assert refused(connection, "SET redshift.mode TO 'serverless'")[0] == "42704"


def test_strict_can_be_disabled(sandbox: Sandbox, connect: Connect) -> None:
    connection = connect()
    assert refused(connection, "SELECT pg_sleep(0.01)")[0] == "42883"
    sandbox.gateway.strict = False
    try:
        lenient = connect(port=sandbox.gateway.port)
        assert len(rows(lenient, "SELECT pg_sleep(0.01)")) == 1
        rows(lenient, "SET query_group TO 'x'")
    finally:
        sandbox.gateway.strict = True
    assert refused(lenient, "SELECT pg_sleep(0.02)")[0] == "42883"


def test_connection_without_gateway_is_not_checked(sandbox: Sandbox) -> None:
    with closing(sandbox.connect_redshift()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT array_agg(n), '{}'::jsonb FROM generate_series(1, 2) n")
        assert cursor.fetchone() == ([1, 2], {})
