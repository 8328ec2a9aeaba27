"""Several databases of a cluster: rows, removals and checks, each failure confined to its database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets_tests.integration.databases.conftest import DATABASES, QUOTED, Fill, drop, run_in
from qupersync_assets_tests.support.integration import Command, Query, checks

Present = Callable[[], set[tuple[str, str]]]
LOGS = "SELECT status, rows_removed, error FROM quper.sync_logs WHERE sync_job_id = 'table_stats_sync' ORDER BY id DESC LIMIT 1"


@pytest.fixture(params=[",".join(DATABASES), "*"], ids=["names", "all"])
def all_databases(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("REDSHIFT_DATABASES", request.param)
    return str(request.param)


@pytest.fixture
def loaded(all_databases: str, fill: Fill, sync_both: Callable[[], Any]) -> None:
    """Two tables in each database, and a load of all."""
    for name in DATABASES:
        fill(name, orders=1, users=2)
    assert sync_both().success


def check(result: Any) -> tuple[bool, str]:
    """The result of the check of table_stats, which is that of column_stats."""
    one, two = checks(result, "reads_all_databases").values()
    assert (one.passed, one.description, one.severity) == (two.passed, two.description, two.severity)
    assert one.severity.value == "ERROR"
    return one.passed, one.description or ""


def test_rows_and_removals_of_each_database(
    all_databases: str, sync_both: Callable[[], Any], fill: Fill, present: Present, target: Query
) -> None:
    fill("redshift", orders=1, users=2)
    fill("sales", orders=1, leads=3)
    fill(QUOTED, orders=1)
    result = sync_both()
    assert result.success and check(result)[0]
    assert all(name in check(result)[1] for name in DATABASES)
    every = {("redshift", "orders"), ("redshift", "users"), ("sales", "orders"), ("sales", "leads"), (QUOTED, "orders")}
    assert present() == every
    # The same table is dropped in one database only: neither its name nor its OID may keep it.
    fill("sales", leads=3)
    for _ in range(2):  # the two jobs are in no order
        assert sync_both().success
    assert present() == every - {("sales", "orders")}
    assert target("SELECT status, error FROM quper.sync_logs GROUP BY 1, 2") == [("success", None)]


def test_a_database_without_connect_keeps_its_rows(
    loaded: None,
    sync_both: Callable[[], Any],
    fill: Fill,
    present: Present,
    target: Query,
    without_connect: Callable[[str], None],
) -> None:
    without_connect("sales")
    for name in DATABASES:
        fill(name, orders=1)
    for _ in range(2):
        result = sync_both()
    assert result.success
    passed, text = check(result)
    assert not passed and "Not loaded: sales:" in text and "permission denied for database" in text
    assert present() == {(name, "orders") for name in DATABASES} | {("sales", "users")}
    [(status, _, error)] = target(LOGS)
    assert status == "partial" and "Database sales:" in error and "42501" in error
    # The day had a complete read before.
    assert target("SELECT is_complete FROM quper.snapshot_days") == [(True,)]
    target("TRUNCATE quper.snapshot_days")
    assert sync_both().success
    assert target("SELECT is_complete FROM quper.snapshot_days") == [(False,)]
    assert target("SELECT DISTINCT database FROM quper.table_stats_daily WHERE removed ORDER BY 1") == [
        (name,) for name in sorted(DATABASES) if name != "sales"
    ]


def test_the_command_does_not_report_a_partial_load_as_a_success(
    qupersync: Command, fill: Fill, without_connect: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDSHIFT_DATABASES", "redshift,sales")
    fill("redshift", orders=1)
    without_connect("sales")
    done = qupersync("sync", "table_stats")
    assert done.code == 1 and "partial" in done.out and "Database sales: " in done.out
    shown = qupersync("status").out
    assert "partial" in shown and "Database sales: " in shown
    [job] = [job for job in qupersync("status", "--json").json["jobs"] if job["sync_job_id"] == "table_stats_sync"]
    assert job["status"] == "partial" and job["failures_since_success"] == 1


def test_a_dropped_database_loses_its_rows(
    databases: Sandbox,
    loaded: None,
    all_databases: str,
    sync_both: Callable[[], Any],
    fill: Fill,
    present: Present,
    target: Query,
) -> None:
    drop(databases, "sales")
    try:
        result = sync_both()
    finally:
        databases.create_database("sales")
    assert result.success
    assert present() == {(name, table) for name in ("redshift", QUOTED) for table in ("orders", "users")}
    assert target(LOGS)[0][1] == 2
    passed, text = check(result)
    assert passed == (all_databases == "*") and ("The cluster has no database sales." in text) != passed


def test_skipped_rows_of_unknown_tables_stop_the_removals_of_their_database(
    databases: Sandbox, loaded: None, sync_both: Callable[[], Any], fill: Fill, present: Present, target: Query
) -> None:
    for name in DATABASES:
        fill(name, orders=1)
    run_in(databases, "sales", "INSERT INTO svv_columns (table_catalog, column_name) VALUES ('sales', 'c')")
    run_in(databases, "sales", "INSERT INTO svv_table_info (database) VALUES ('sales')")
    for _ in range(2):
        assert sync_both().success
    assert target("SELECT count(DISTINCT sync_job_id) FROM quper.skipped_rows") == [(2,)]
    assert present() == {(name, "orders") for name in DATABASES} | {("sales", "users")}


def test_a_database_that_fails_while_it_is_read_keeps_its_rows(
    databases: Sandbox, loaded: None, sync_both: Callable[[], Any], fill: Fill, target: Query
) -> None:
    for name in DATABASES:
        fill(name, orders=1)
    run_in(
        databases,
        "sales",
        "ALTER TABLE svv_table_info RENAME TO info; CREATE VIEW svv_table_info AS SELECT * FROM info "
        "WHERE (1 / (table_id::int - 1)) IS NOT NULL; GRANT SELECT ON svv_table_info TO qupersync_reader",
    )
    try:
        result = sync_both()
    finally:
        run_in(databases, "sales", "DROP VIEW svv_table_info; ALTER TABLE info RENAME TO svv_table_info")
    failed = checks(result, "reads_all_databases")
    text = failed["table_stats"].description or ""
    assert "Not loaded: sales:" in text and "22012" in text
    assert failed["column_stats"].passed
    tables = target("SELECT database, table_name FROM quper.table_stats_current ORDER BY database = 'sales', 1, 2")
    assert tables[-2:] == [("sales", "orders"), ("sales", "users")]


def test_two_installations_of_one_cluster_leave_each_others_rows_alone(
    sync_both: Callable[[], Any], fill: Fill, present: Present, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("redshift", orders=1, users=2)
    fill("sales", orders=1, leads=3)
    for database in ("redshift", "sales", "redshift"):
        monkeypatch.setenv("REDSHIFT_DATABASE", database)
        assert sync_both().success
    assert len(present()) == 4
    assert target("SELECT sum(rows_removed), sum(rows_updated) FROM quper.sync_logs") == [(0, 0)]


def test_a_database_of_a_datashare_is_not_read(
    databases: Sandbox, sync_both: Callable[[], Any], fill: Fill, present: Present, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDSHIFT_DATABASES", "*")
    databases.create_database("shares", shared=True)
    databases.create_database("elsewhere", cluster="other")
    try:
        for name in ("redshift", "shares", "elsewhere"):
            fill(name, orders=1)
        result = sync_both()
    finally:
        drop(databases, "shares")
        drop(databases, "elsewhere")
    assert check(result)[0] and present() == {("redshift", "orders")}


def test_the_load_fails_if_no_database_can_be_read(
    sync_both: Callable[[], Any], fill: Fill, target: Query, monkeypatch: pytest.MonkeyPatch, without_connect: Any
) -> None:
    monkeypatch.setenv("REDSHIFT_DATABASES", "sales,nowhere")
    without_connect("sales")
    assert not sync_both().success
    [(status, _, error)] = target(LOGS)
    assert status == "failed" and "sales: " in error and "The cluster has no database nowhere." in error
