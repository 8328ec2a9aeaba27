"""Views, columns and privileges that a cluster lacks are reported: kinds of clusters, privileges and patch levels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.spec.redshift_views import needs_provisioned
from qupersync_assets.spec.source_variant import Variant
from qupersync_assets.sync_jobs import all_specs, default_specs
from qupersync_assets_tests.support.expected_rows import ORACLES, plain
from qupersync_assets_tests.support.integration import Materialize, Query, Sync, checks

DETAIL = "FROM sys_query_detail WHERE user_id <> 1"
STARTED = "CASE rtrim(vacuum_type) WHEN 'Delete' THEN ' Delete Only' WHEN 'Sort' THEN ' Sort Only' ELSE '' END"
# Expected rows of a table that is loaded from these views, as SQL over them.
FROM_SYS = {
    "sys_vacuum_history": (
        "SELECT user_id, transaction_id, table_id, CASE WHEN is_automatic THEN '[VacuumBG] ' ELSE '' END || "
        f"CASE rtrim(status) WHEN 'Skipped' THEN 'Skipped' ELSE 'Started' || {STARTED} END, rows_before_vacuum, "
        "sortedrows_before_vacuum, size_before_vacuum, start_time FROM sys_vacuum_history UNION ALL "
        "SELECT user_id, transaction_id, table_id, CASE WHEN is_automatic THEN '[VacuumBG] ' ELSE '' END || "
        "'Finished', rows_before_vacuum - reclaimed_rows, sortedrows_after_vacuum, "
        "size_before_vacuum - reclaimed_blocks, end_time FROM sys_vacuum_history WHERE rtrim(status) = 'Complete'",
        "SELECT userid, xid, table_id, status, rows, sortedrows, blocks, eventtime FROM quper.vacuum_history",
    ),
    "sys_query_detail": (
        f"SELECT query_id, segment_id, step_id, alert, min(user_id), min(start_time), count(*) {DETAIL} "
        "AND alert <> '' AND start_time >= getdate() - interval '7 days' GROUP BY 1, 2, 3, 4",
        "SELECT query, segment, step, event, userid, event_time, occurrences FROM quper.alert_events",
    ),
    "sys_query_detail scans": (
        "SELECT table_id, date_trunc('hour', start_time), max(split_part(rtrim(table_name), '.', 3)), count(*), "
        "count(DISTINCT query_id), sum(output_rows), sum(output_bytes), NULL, sum((is_rrscan = 't')::int), "
        f"min(start_time), max(end_time) {DETAIL} AND step_name = 'scan' AND step_id >= 0 GROUP BY 1, 2",
        "SELECT table_id, scan_hour, table_name, scans, queries, rows, bytes, rows_pre_filter, "
        "range_restricted_scans, first_scan_at, last_scan_at FROM quper.table_scan_stats",
    ),
    "sys_connection_log": (
        ORACLES["applications"][0].replace("svl_user_activity", "sys_connection_log"),
        ORACLES["applications"][1],
    ),
    "stl_connection_log": (
        "SELECT rtrim(application_name), rtrim(username), rtrim(dbname), min(recordtime), max(recordtime), "
        "count(DISTINCT pid) FROM stl_connection_log WHERE rtrim(application_name) <> '' GROUP BY 1, 2, 3",
        ORACLES["applications"][1],
    ),
}


@contextmanager
def changed(query: Query, change: str, back: str) -> Iterator[None]:
    query(change)
    try:
        yield
    finally:
        query(back)


def same(names: str, source: Query, target: Query) -> bool:
    expected, actual = FROM_SYS[names]
    rows = plain(target(actual))
    assert rows == plain(source(expected))
    return len(rows) > 5


def only_provisioned(variant: Variant) -> bool:
    return any(map(needs_provisioned, variant.sources))


def logs(target: Query, run_id: str) -> dict[str, tuple[Any, ...]]:
    """(status, source, error) by table."""
    rows = target("SELECT sync_job_id, status, source, error FROM quper.sync_logs WHERE run_id = %s", [run_id])
    tables = {spec.sync_job_id: spec.table.name for spec in all_specs()}
    return {tables[job]: tuple(values) for job, *values in rows}


@pytest.mark.parametrize(("mode", "listed"), [("serverless", False), ("serverless", True), ("multi-az", True)])
def test_sys_views_replace_missing_stl_views(
    filled: object,
    sandbox: Sandbox,
    materialize: Materialize,
    source: Query,
    target: Query,
    monkeypatch: pytest.MonkeyPatch,
    mode: Any,
    listed: bool,
) -> None:
    without_activity = changed(
        source, "ALTER VIEW svl_user_activity RENAME TO renamed", "ALTER VIEW renamed RENAME TO svl_user_activity"
    )
    upstream = (sandbox.server.host, sandbox.server.port)
    with Gateway(upstream, mode=mode, lists_absent=listed) as gateway, without_activity:
        monkeypatch.setenv("REDSHIFT_PORT", str(gateway.port))
        first, second = materialize(), materialize()
    assert first.success and second.success
    for result in (first, second):
        logged = logs(target, result.run_id)
        without = [spec for spec in default_specs() if all(map(only_provisioned, spec.variants))]
        for spec in without:
            status, read, error = logged.pop(spec.table.name)
            assert (status, read) == ("unavailable", None) and spec.sources[0] in error
        assert {(status, error) for status, _, error in logged.values()} == {("success", None)}
        assert {table: read for table, (_, read, _) in logged.items()}.items() >= {
            "alert_events": "sys_query_detail",
            "applications": "sys_connection_log",
            "column_stats": "svv_columns, pg_attribute",
            "query_history": "sys_query_history, sys_connection_log",
            "query_metrics": "sys_query_detail, sys_query_history",
            "table_scan_stats": "sys_query_detail",
            "table_stats": "svv_table_info",
            "vacuum_history": "sys_vacuum_history",
        }.items()
        found = checks(result, "source_schema")
        assert {table for table, check in found.items() if not check.passed} == {spec.table.name for spec in without}
        assert found["node_details"].severity == dg.AssetCheckSeverity.WARN
        assert "stv_node_storage_capacity" in str(found["node_details"].description)
    assert target("SELECT max(attempts), count(*) FROM quper.sync_logs") == [(1, 2 * len(default_specs()))]
    rewritten = "SELECT sum(rows_inserted + rows_updated) FROM quper.sync_logs WHERE run_id = %s"
    assert target(rewritten, [second.run_id]) == [(0,)]
    for names in FROM_SYS.keys() - {"stl_connection_log"}:
        assert same(names, source, target)
    assert target("SELECT DISTINCT source_view FROM quper.alert_events") == [("sys_query_detail",)]
    filled_after_load = "SELECT count(last_vacuum_date), count(vacuum_type) FROM quper.table_stats"
    assert all(count > 5 for count in target(filled_after_load)[0])


def test_vacuums_are_the_same_from_both_views(
    filled: object, materialize: Materialize, source: Query, target: Query
) -> None:
    known = (
        "SELECT userid, xid, table_id, outcome, rows, sortedrows, blocks, eventtime FROM quper.vacuum_history "
        "WHERE outcome <> 'skipped'"
    )
    # Of both views the same vacuums, also of those that began before the retention.
    source(
        "DELETE FROM sys_vacuum_history WHERE start_time < getdate() - interval '6 days'; "
        "DELETE FROM stl_vacuum WHERE xid NOT IN (SELECT transaction_id FROM sys_vacuum_history)"
    )
    assert materialize("vacuum_history").success
    of_stl = plain(target(known))
    target("TRUNCATE quper.vacuum_history")
    revoked = "REVOKE SELECT ON stl_vacuum FROM qupersync_reader"
    with changed(source, revoked, "GRANT SELECT ON stl_vacuum TO qupersync_reader"):
        result = materialize("vacuum_history")
    assert result.success
    assert plain(target(known)) == of_stl and len(of_stl) > 5
    check = checks(result, "source_schema")["vacuum_history"]
    assert check.passed
    for word in ("Read from sys_vacuum_history", "stl_vacuum", "permission denied", "42501"):
        assert word in str(check.description)


def test_applications_come_from_any_connection_log(
    filled: object, materialize: Materialize, source: Query, target: Query
) -> None:
    hidden = [
        ("ALTER VIEW svl_user_activity RENAME TO renamed", "ALTER VIEW renamed RENAME TO svl_user_activity"),
        (
            "ALTER TABLE sys_connection_log RENAME TO renamed_log",
            "ALTER TABLE renamed_log RENAME TO sys_connection_log",
        ),
    ]
    source(
        "INSERT INTO stl_connection_log (event, recordtime, pid, dbname, username, application_name) "
        "SELECT event, record_time, session_id, database_name, user_name, application_name FROM sys_connection_log"
    )
    with changed(source, *hidden[0]):
        assert materialize("applications").success
        assert same("sys_connection_log", source, target)
        target("TRUNCATE quper.applications")
        with changed(source, *hidden[1]):
            result = materialize("applications")
            assert logs(target, result.run_id)["applications"] == ("success", "stl_connection_log", None)
            assert same("stl_connection_log", source, target)
            description = str(checks(result, "source_schema")["applications"].description)
            assert "it does not have svl_user_activity; it does not have sys_connection_log" in description


def test_an_administrators_view_is_found_in_the_search_path(
    filled: object, sync: Sync, source: Query, target: Query
) -> None:
    made = (
        "ALTER VIEW svl_user_activity SET SCHEMA public; GRANT USAGE ON SCHEMA public TO qupersync_reader; "
        "ALTER ROLE qupersync_reader IN DATABASE redshift "
        "SET search_path = redshift_catalog, redshift, pg_catalog, public"
    )
    undone = (
        "ALTER VIEW public.svl_user_activity SET SCHEMA redshift; ALTER ROLE qupersync_reader IN DATABASE redshift "
        "SET search_path = redshift_catalog, redshift, pg_catalog"
    )
    with changed(source, made, undone):
        result = sync("applications")
    assert logs(target, result.run_id)["applications"] == ("success", "svl_user_activity", None)


def test_a_column_missing_in_a_patch_level_is_null(
    filled: object, materialize: Materialize, source: Query, target: Query
) -> None:
    lacking = {
        "sys_query_history": ["username", "query_priority", "returned_rows", "result_cache_hit"],
        "stl_scan": ["rows_pre_filter", "is_rrscan"],
        "stl_alert_event_log": ["solution", "pid"],
    }
    columns = [(view, name) for view, names in lacking.items() for name in names]
    changes = [f"ALTER TABLE {view} RENAME COLUMN {name} TO {name}_new" for view, name in columns]
    undoing = [f"ALTER TABLE {view} RENAME COLUMN {name}_new TO {name}" for view, name in columns]
    with changed(source, "; ".join(changes), "; ".join(undoing)):
        source("UPDATE sys_query_history SET status = 'running', end_time = NULL WHERE query_id % 7 = 0")
        older = materialize()
        assert older.success
        found = checks(older, "source_schema")
        assert {table for table, check in found.items() if not check.passed} == {
            "query_history",
            "query_metrics",
            "table_scan_stats",
            "alert_events",
        }
        for check in found.values():
            assert check.passed or check.severity == dg.AssetCheckSeverity.WARN
        descriptions = " ".join(str(check.description) for check in found.values() if not check.passed)
        assert all(f"{view}.{name}" in descriptions for view, name in columns)
        nothing = target(
            "SELECT count(query_priority) + count(returned_rows) FROM quper.query_history "
            "UNION ALL SELECT sum(range_restricted_scans) FROM quper.table_scan_stats "
            "UNION ALL SELECT count(rows_pre_filter) FROM quper.table_scan_stats "
            "UNION ALL SELECT count(solution) + count(pid) FROM quper.alert_events "
        )
        assert [count for (count,) in nothing] == [0] * 4

        versions = "SELECT query_id, ctid, xmin FROM quper.query_history"
        before = sorted(target(versions))
        again = materialize()
        assert sorted(target(versions)) == before
        written = "SELECT sum(rows_inserted + rows_updated) FROM quper.sync_logs WHERE run_id = %s"
        assert target(written, [again.run_id]) == [(0,)]

        ended = source(
            "UPDATE sys_query_history SET status = 'success', end_time = getdate(), elapsed_time = 9007199254740993 "
            "WHERE rtrim(status) = 'running' AND user_id <> 1 RETURNING query_id"
        )
        third = materialize()
        assert ended and target(written, [third.run_id]) == [(len(ended),)]
        assert target(
            "SELECT DISTINCT status, elapsed_time_us FROM quper.query_history WHERE query_id = ANY(%s)",
            [[query_id for (query_id,) in ended]],
        ) == [("success", 9007199254740993)]
    newer = materialize()
    assert newer.success and all(check.passed for check in checks(newer, "source_schema").values())
    for table in ("query_history", "alert_events", "table_scan_stats", "vacuum_history"):
        expected, actual = ORACLES[table]
        assert actual is not None and plain(target(actual)) == plain(source(expected, ())), table


def test_a_new_column_is_ignored_and_reported(
    filled: object, materialize: Materialize, source: Query, target: Query
) -> None:
    added = "ALTER TABLE svv_table_info ADD COLUMN brand_new integer"
    with changed(source, added, "ALTER TABLE svv_table_info DROP COLUMN brand_new"):
        result = materialize("table_stats", "column_stats")
    assert result.success
    found = checks(result, "source_schema")
    assert found["column_stats"].passed and not found["table_stats"].passed
    assert found["table_stats"].severity == dg.AssetCheckSeverity.WARN
    assert "svv_table_info.brand_new" in str(found["table_stats"].description)
    assert found["table_stats"].metadata["columns_ignored"].value == 1


def test_limited_visibility_of_a_user_is_reported(
    filled: object, materialize: Materialize, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_seen = checks(materialize("query_history"), "sees_all_rows")["query_history"]
    assert all_seen.passed and "qupersync_reader" in str(all_seen.description)
    monkeypatch.setenv("REDSHIFT_USER", "qupersync_ordinary")
    result = materialize("query_history", "column_stats")
    assert result.success
    assert logs(target, result.run_id)["query_history"][0] == "success"
    (check,) = checks(result, "sees_all_rows").values()
    assert not check.passed and check.severity == dg.AssetCheckSeverity.WARN
    assert 'GRANT ROLE sys:monitor TO "qupersync_ordinary"' in str(check.description)
    assert 'ALTER USER "qupersync_ordinary" SYSLOG ACCESS UNRESTRICTED' in str(check.description)


def test_a_missing_grant_is_reported_as_a_statement(filled: object, sync: Sync, source: Query, target: Query) -> None:
    revoke = "REVOKE SELECT ON stv_node_storage_capacity FROM qupersync_reader"
    with changed(source, revoke, "GRANT SELECT ON stv_node_storage_capacity TO qupersync_reader"):
        result = sync("node_details")
        assert not result.success
        status, _, error = logs(target, result.run_id)["node_details"]
        statement = 'GRANT SELECT ON stv_node_storage_capacity TO "qupersync_reader";'
        assert status == "failed" and statement in error
        source(statement)
        assert sync("node_details").success


def test_only_views_that_are_refused_are_to_be_granted(sync: Sync, source: Query, target: Query) -> None:
    views = "stl_query, sys_query_detail"
    with changed(
        source, f"REVOKE SELECT ON {views} FROM qupersync_reader", f"GRANT SELECT ON {views} TO qupersync_reader"
    ):
        assert not sync("alert_events").success
    [(error,)] = target("SELECT error FROM quper.sync_logs")
    assert 'GRANT SELECT ON stl_query TO "qupersync_reader";' in error


def test_a_column_of_another_type_is_coerced_row_by_row(sync: Sync, source: Query, target: Query) -> None:
    source("INSERT INTO stv_node_storage_capacity SELECT n, n, 9000 FROM generate_series(1, 5) n")
    retyped = (
        "ALTER TABLE stv_node_storage_capacity ALTER used TYPE text USING "
        "CASE node WHEN 2 THEN 'much' WHEN 3 THEN ' 3.0 ' WHEN 4 THEN '9223372036854775807' ELSE used::text END"
    )
    back = "TRUNCATE stv_node_storage_capacity; ALTER TABLE stv_node_storage_capacity ALTER used TYPE integer USING 1"
    with changed(source, retyped, back):
        result = sync("node_details")
    assert result.success
    assert target("SELECT node, used_mb FROM quper.node_details ORDER BY node") == [
        (1, 1), (3, 3), (4, 2**63 - 1), (5, 5)
    ]  # fmt: skip
    assert target("SELECT column_name, row->>'used_mb' FROM quper.skipped_rows") == [("used_mb", "much")]
