"""Rows are joined by all of their key, and rows that do not count change no sum: each row here is one that does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets_tests.support.integration import Query, Sync


def insert(source: Query, view: str, names: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows at one time; numbers of the last columns, whose names end with ' ago', are hours before it."""
    columns = [name.removesuffix(" ago") for name in names.split(", ")]
    values = ", ".join(
        "getdate() - %s * interval '1 hour'" if name.endswith(" ago") else "%s" for name in names.split(", ")
    )
    source(
        f"INSERT INTO {view} ({', '.join(columns)}) VALUES {', '.join([f'({values})'] * len(rows))}",
        [value for row in rows for value in row],
    )


@pytest.fixture
def serverless(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Iterator[None]:
    with Gateway((sandbox.server.host, sandbox.server.port), mode="serverless") as gateway:
        monkeypatch.setenv("REDSHIFT_PORT", str(gateway.port))
        yield


ALERTED = (
    "SELECT query, table_id, table_name, table_origin, tables_scanned, slice, occurrences FROM quper.alert_events "
    "ORDER BY query"
)


def test_an_alert_has_the_table_of_its_step_or_the_largest_of_its_query(
    sync: Sync, source: Query, target: Query
) -> None:
    alerts = [(1, 0, 0, 0), (1, 3, 0, 0), (2, 0, 0, 1), (3, 0, 1, 0)]
    names = "query, slice, segment, step, userid, event, event_time ago"
    insert(source, "stl_alert_event_log", names, [(*alert, 100, "e", 0) for alert in alerts])
    insert(source, "stl_alert_event_log", names, [(4, 0, 0, 0, None, "no time", None)])
    scans = [  # query, segment, step, table, type, rows
        (1, 0, 0, 90, 1, 999),  # a temporary table
        *[(1, 0, 1, 11, 2, None), (1, 1, 0, 12, 2, 5), (1, 2, 0, 12, 2, 4), (1, 3, 0, 13, 2, 8)],
        *[(2, 0, 0, 21, 2, 1), (2, 1, 1, 22, 2, 1), (2, 0, 1, 23, 1, 9)],  # other steps
        *[(3, 1, 0, 31, 2, 1), (3, 0, 0, 32, 2, 9)],
    ]
    names = "query, segment, step, tbl, type, rows_pre_filter, userid, slice, perm_table_name, starttime ago"
    insert(source, "stl_scan", names, [(*scan, 100, 0, f"t{scan[3]}", 0) for scan in scans])
    assert sync("alert_events").success
    assert target(ALERTED) == [
        (1, 12, "t12", "query", 3, 0, 2),
        (2, 21, "t21", "query", 2, 0, 1),
        (3, 31, "t31", "step", 2, 0, 1),
        (4, None, None, None, None, 0, 1),
    ]


def test_an_alert_of_serverless_has_the_table_of_its_step_or_the_largest_of_its_query(
    serverless: None, sync: Sync, source: Query, target: Query
) -> None:
    names = "query_id, step_id, step_name, alert, table_id, table_name, input_rows, user_id, segment_id, start_time ago"
    steps: list[tuple[Any, ...]] = [
        *[(1, 0, "scan", "", 11, "d.s.a", 1), (1, 1, "scan", "", 12, "d.s.b.c", 5), (1, 2, "sort", "e", 0, "x.y.z", 9)],
        *[(1, -1, "scan", "", 13, "d.s.sum", 99), (1, 3, "insert", "", 14, "d.s.new", 99)],
        (2, 0, "scan", "e", 21, "d.s.t", 1),
    ]
    insert(source, "sys_query_detail", names, [(*step, 100, 0, 0) for step in steps])
    insert(source, "sys_query_detail", names, [(3, 0, "sort", "no time", None, None, 1, None, 0, None)])
    assert sync("alert_events").success
    expected = [
        (1, 12, "b.c", "query", 2, None, 1),
        (2, 21, "t", "step", 1, None, 1),
        (3, None, None, None, None, None, 1),
    ]
    assert target(ALERTED) == expected
    # The scans of a query may be earlier than the time from which alerts are read.
    steps = [(4, 0, "scan", "", 41, "d.s.t", 1, 100, 0, 3), (4, 1, "sort", "e", None, None, 1, 100, 0, 0)]
    insert(source, "sys_query_detail", names, steps)
    assert sync("alert_events").success
    assert target(ALERTED) == [*expected, (4, 41, "t", "query", 1, None, 1)]


SCANNED = "SELECT table_id, scans, queries FROM quper.table_scan_stats"


def test_scans_are_counted_by_step_without_those_of_redshift(sync: Sync, source: Query, target: Query) -> None:
    scans = [  # user, query, slice, step, table, type
        *[(100, 1, 0, 0, 7, 2), (100, 1, 1, 0, 7, 2), (100, 1, 0, 1, 7, 2), (None, 2, 0, 0, 7, 2)],
        *[(1, 3, 0, 0, 7, 2), (100, 4, 0, 0, 7, 1)],  # of Redshift itself, of a temporary table
    ]
    names = "userid, query, slice, step, tbl, type, segment, is_rrscan, starttime ago"
    insert(source, "stl_scan", names, [(*scan, 0, "f", 0) for scan in scans])
    source("INSERT INTO stl_scan (query, tbl, type, starttime) VALUES (5, 7, 2, '2000-01-01')")  # it never ran
    assert sync("table_scan_stats").success
    assert target(SCANNED) == [(7, 3, 2)]


def test_steps_are_counted_without_sums_and_those_of_redshift(
    serverless: None, sync: Sync, source: Query, target: Query
) -> None:
    steps: list[tuple[Any, ...]] = [  # user, query, step, name, table, rows read and written, range-restricted
        *[(100, 1, 0, "scan", 7, None, 1, "t"), (100, 1, 1, "scan", 8, 5, 1, "f"), (None, 2, 0, "scan", 7, 4, 1, "f")],
        *[(1, 3, 0, "scan", 7, 9, 9, "f"), (100, 1, -1, "scan", 7, 99, 99, "f")],  # of Redshift itself, a sum
        *[(100, 1, 2, "scan", 0, 50, 9, "f"), (100, 1, 3, "insert", 9, 99, 3, "t")],  # no scan of a table
        (100, 4, 0, "scan", 0, 1, 1, "f"),
    ]
    names = "user_id, query_id, step_id, step_name, table_id, input_rows, output_rows, is_rrscan, segment_id, table_name, start_time ago"
    insert(source, "sys_query_detail", names, [(*step, 0, f"d.s.t{step[4]}", 0) for step in steps])
    insert(source, "sys_query_detail", names, [(100, 5, 0, "scan", 7, 1, 1, "f", 0, "d.s.t7", None)])  # without a time
    assert sync("table_scan_stats", "query_metrics").success
    assert target(f"{SCANNED} ORDER BY 1") == [(7, 2, 2), (8, 1, 1)]
    assert target("SELECT sync_job_id FROM quper.skipped_rows") == [("scan_stats_sync",)]
    metrics = target(
        "SELECT query_id, rows_scanned, rows_inserted, scans, range_restricted_scans, tables_scanned, "
        "largest_table_id, largest_table_name FROM quper.query_metrics ORDER BY 1"
    )
    expected = [(1, 55, 3, 3, 1, 2, 8, "t8"), (2, 4, 0, 1, 0, 1, 7, "t7")]
    assert metrics == [*expected, (4, 1, 0, 1, 0, 0, None, None), (5, 1, 0, 1, 0, 1, 7, "t7")]


def test_columns_have_the_attributes_of_their_own_table(sync: Sync, source: Query, target: Query) -> None:
    insert(source, "pg_namespace", "oid, nspname", [(9, "a"), (10, "b")])
    insert(source, "pg_class", "oid, relname, relnamespace, relkind", [(1, "t", 9, "r"), (2, "t", 10, "r")])
    attributes = [(1, "c", 1, False, True), (1, "c", 2, True, False), (1, "c", -1, False, False)]
    names = "attrelid, attname, attnum, attisdropped, attisdistkey"
    insert(source, "pg_attribute", names, [*attributes, (2, "c", 1, False, False), (2, "other", 2, False, True)])
    names = "table_catalog, table_schema, table_name, column_name"
    insert(source, "svv_columns", names, [("d", s, "t", "c") for s in ("a", "b", "late", "pg_internal", "pg_catalog")])
    assert sync("column_stats").success
    columns = target("SELECT table_schema, table_id, distkey FROM quper.column_stats ORDER BY 1")
    assert columns == [("a", 1, True), ("b", 2, False), ("late", None, None)]
    assert target("SELECT rows_extracted FROM quper.sync_logs") == [(3,)]


def test_a_table_has_the_kind_of_its_last_finished_vacuum(sync: Sync, source: Query, target: Query) -> None:
    insert(source, "svv_table_info", '"database", table_id, "table"', [("d", n, "t") for n in (7, 8, 9, 10, 11)])
    vacuums = [
        *[(7, 1, "Started Delete Only", 50), (7, 1, "Finished", 49)],
        *[(7, 2, "Started Reindex", 48), (7, 2, "Started Sort Only", 47), (8, 2, "Started", 46.6), (8, 2, "Finished", 46.5)],
        *[(7, 3, "Started Recluster", 46.4), (7, 2, "Finished", 46), (7, 2, "Started", 45)],  # two were aborted
        *[(9, 4, "Started Recluster", 40), (9, 4, "Finished", 40)],
        *[(10, 5, "Finished", 40), (11, 6, "Started", 40), (11, 6, "Failed", 39), (11, 7, "Finished", None)],
    ]  # fmt: skip
    insert(source, "stl_vacuum", "table_id, xid, status, userid, eventtime ago", [(*v[:3], 100, v[3]) for v in vacuums])
    assert sync("vacuum_history").success and sync("table_stats").success
    linked = target(
        "SELECT table_id, round(extract(epoch FROM now() - last_vacuum_date) / 3600, 1), vacuum_type "
        "FROM quper.table_stats ORDER BY 1"
    )
    assert target("SELECT row ->> 'xid' FROM quper.skipped_rows") == [("7",)]  # without a time it has no key
    assert linked == [(7, 46, "SORT ONLY"), (8, 46.5, "FULL"), (9, 40, "RECLUSTER"), (10, 40, None), (11, None, None)]


def test_vacuums_of_the_sys_view_have_a_start_and_an_end(sync: Sync, source: Query, target: Query) -> None:
    names = "transaction_id, vacuum_type, status, is_automatic, table_id, start_time ago, end_time ago"
    vacuums: list[tuple[Any, ...]] = [
        *[(1, "Recluster", "Complete", False, 7, 2, 1), (2, "Full", "Failed", True, 7, 2, 1)],
        *[(3, "Delete", "Skipped", False, 7, 2, 1), (4, "Reindex", "Running", False, 7, None, None)],
        (5, "Sort", "Complete", False, 7, 24 * 30, 24 * 30 - 1),
    ]
    insert(source, "sys_vacuum_history", names, vacuums)
    source("REVOKE SELECT ON stl_vacuum FROM qupersync_reader")
    try:
        assert sync("vacuum_history").success
    finally:
        source("GRANT SELECT ON stl_vacuum TO qupersync_reader")
    rows = target("SELECT xid, status FROM quper.vacuum_history ORDER BY xid, eventtime")
    assert rows == [
        *[(1, "Started Recluster"), (1, "Finished"), (2, "[VacuumBG] Started"), (2, "[VacuumBG] Failed")],
        *[(3, "Skipped"), (5, "Started Sort Only"), (5, "Finished")],
    ]
    # Without a time a row has no key: it is recorded.
    assert target("SELECT row ->> 'xid' FROM quper.skipped_rows") == [("4",)]


def test_of_two_rows_of_a_query_the_later_one_is_kept(sync: Sync, source: Query, target: Query) -> None:
    rows = [(100, 1, elapsed, 0.5) for elapsed in (5, 9, 3)]
    insert(source, "sys_query_history", "user_id, query_id, elapsed_time, start_time ago", rows)
    assert sync("query_history").success
    assert target("SELECT elapsed_time_us FROM quper.query_history") == [(9,)]
