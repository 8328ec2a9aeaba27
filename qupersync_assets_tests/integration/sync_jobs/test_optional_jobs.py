"""Optional jobs, which SYNC_JOBS names: every value is loaded, on each kind of cluster that has the views."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.expected_rows import oracle, plain
from qupersync_assets_tests.support.integration import Materialize, Query, Sync, checks

OPTIONAL = [spec for spec in all_specs() if spec.optional]
PROVISIONED_ONLY = {"node_slices", "wlm_queues", "wlm_rules"}
SERVERLESS_ONLY = {"serverless_usage"}


@pytest.fixture(autouse=True)
def chosen(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """SYNC_JOBS names the optional jobs and no other."""
    monkeypatch.setenv("SYNC_JOBS", ",".join(spec.sync_job_id for spec in OPTIONAL))


@pytest.fixture
def mode(request: pytest.FixtureRequest, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Log in to a cluster of a kind."""
    upstream = (sandbox.server.host, sandbox.server.port)
    with Gateway(upstream, mode=request.param, lists_absent=request.param != "multi-az") as gateway:
        monkeypatch.setenv("REDSHIFT_PORT", str(gateway.port))
        yield request.param


def versions(target: Query, spec: SyncSpec, cluster: str) -> list[tuple[Any, ...]]:
    """Return what changes if a row of a cluster is written."""
    return target(f"SELECT ctid, xmin FROM {spec.table.fullname} WHERE cluster = %s ORDER BY ctid", [cluster])


def copy_to_other_cluster(target: Query, spec: SyncSpec) -> None:
    names = ", ".join(f'"{c.name}"' for c in spec.table.c if c.name != "cluster" and c.computed is None)
    target(f"INSERT INTO {spec.table.fullname} (cluster, {names}) SELECT 'other', {names} FROM {spec.table.fullname}")


@pytest.mark.parametrize("mode", ["provisioned", "serverless", "multi-az"], indirect=True)
def test_every_value_is_loaded_once(
    filled: Sandbox, mode: Any, materialize: Materialize, source: Query, target: Query
) -> None:
    first = materialize()
    assert first.success
    absent = SERVERLESS_ONLY if mode == "provisioned" else PROVISIONED_ONLY
    absent = absent | SERVERLESS_ONLY if mode == "multi-az" else absent
    unavailable = target("SELECT sync_job_id FROM quper.sync_logs WHERE status = 'unavailable'")
    present = [spec for spec in OPTIONAL if spec.table.name not in absent]
    assert {name.removesuffix("_sync") for (name,) in unavailable} == absent
    for spec in present:
        expected, actual = oracle(spec, source, target)
        assert len(actual) > 1 and actual == expected, spec.sync_job_id
        copy_to_other_cluster(target, spec)
    before = {(spec.sync_job_id, c): versions(target, spec, c) for spec in present for c in ("sandbox", "other")}
    assert materialize().success
    after = {(spec.sync_job_id, c): versions(target, spec, c) for spec in present for c in ("sandbox", "other")}
    assert after == before
    # Redshift may delete the rows of files before those of their loads.
    source("TRUNCATE sys_load_detail")
    target("UPDATE quper.sync_logs SET started_at = started_at - interval '1 day'")
    assert materialize("load_history").success
    (load_history,) = (spec for spec in OPTIONAL if spec.table.name == "load_history")
    assert versions(target, load_history, "sandbox") == before["load_history_sync", "sandbox"]
    failed = [check for check in first.get_asset_check_evaluations() if not check.passed]
    assert {check.asset_key.path[-1] for check in failed} == absent


def test_only_optional_jobs_have_an_asset(filled: Sandbox, sync: Sync, target: Query) -> None:
    assert sync().success
    jobs = {job for (job,) in target("SELECT DISTINCT sync_job_id FROM quper.sync_logs")}
    assert jobs == {spec.sync_job_id for spec in OPTIONAL}


@pytest.mark.parametrize("mode", ["serverless"], indirect=True)
def test_changed_rows_are_merged(filled: Sandbox, mode: Any, sync: Sync, source: Query, target: Query) -> None:
    source(
        "UPDATE sys_load_history SET status = 'running', end_time = NULL WHERE start_time < getdate() - interval '1 day'"
    )
    source("UPDATE sys_serverless_usage SET charged_seconds = 0")
    assert sync().success
    target("UPDATE quper.sync_logs SET started_at = date_trunc('day', now())")
    (running,) = target("SELECT count(*) FROM quper.load_history WHERE status = 'running'")
    assert running[0] > 5
    # An aborted load has ended; the parts of a running one are counted again.
    source(
        "UPDATE sys_load_history SET status = 'aborted' WHERE query_id = (SELECT max(query_id) FROM sys_load_history)"
    )
    assert sync("load_history").success
    (load_history,) = (spec for spec in OPTIONAL if spec.table.name == "load_history")
    mutable = f"SELECT DISTINCT status FROM quper.load_history WHERE {load_history.mutable_where}"
    assert target(mutable) == [("running",)] != target("SELECT DISTINCT status FROM quper.load_history")
    runs = "SELECT query_id FROM sys_load_history WHERE status = 'running'"
    source(f"UPDATE sys_load_detail SET splits_scanned = splits_scanned + 1 WHERE query_id IN ({runs})")
    source("UPDATE sys_load_history SET status = 'completed', end_time = start_time WHERE status = 'running'")
    for _ in range(3):
        filled.workload().advance(datetime.now(UTC))
    assert sync().success
    assert target(
        "SELECT DISTINCT read_mode FROM quper.sync_logs WHERE sync_job_id = 'load_history_sync' ORDER BY 1"
    ) == [("full",), ("incremental",)]
    for spec in OPTIONAL:
        if spec.table.name not in PROVISIONED_ONLY:
            expected, actual = oracle(spec, source, target)
            assert set(expected) <= set(actual), spec.sync_job_id
    assert target("SELECT count(*) FROM quper.serverless_usage WHERE charged_rpu_seconds > 0")[0][0] > 300


def test_stl_views_replace_missing_sys_views(filled: Sandbox, sync: Sync, source: Query, target: Query) -> None:
    source("UPDATE stl_analyze SET is_auto = 'f', is_background = 't' WHERE xid = (SELECT min(xid) FROM stl_analyze)")
    source("INSERT INTO stl_load_errors (query, starttime) VALUES (1, getdate()), (2, NULL)")  # without a line
    views = "sys_load_error_detail", "sys_analyze_history"
    for view in views:
        source(f"ALTER TABLE {view} RENAME TO renamed_{view}")
    try:
        assert sync("load_errors", "analyze_history").success
    finally:
        for view in views:
            source(f"ALTER TABLE renamed_{view} RENAME TO {view}")
    errors = (
        "SELECT userid, query, session, tbl, starttime, rtrim(filename), coalesce(line_number, -1), rtrim(colname), "
        "rtrim(type), rtrim(col_length), coalesce(position, -1), rtrim(raw_line), rtrim(raw_field_value), err_code, "
        "rtrim(err_reason) FROM stl_load_errors"
    )
    loaded = (
        "SELECT user_id, query, session_id, table_id, start_time, file_name, line_number, nullif(column_name, ''), "
        "column_type, column_length, position, raw_line, raw_field_value, error_code, error_message "
        "FROM quper.load_errors WHERE query_id IS NULL"
    )
    assert plain(target(loaded)) == plain(source(errors)) != []
    analyzed = (
        "SELECT userid, xid, rtrim(database), table_id, rtrim(schema_name), rtrim(table_name), "
        "'t' IN (is_auto, is_background), rtrim(status), starttime, endtime, rows, modified_rows, threshold_percent, "
        "prevtime FROM stl_analyze"
    )
    loaded = (
        "SELECT user_id, transaction_id, database_name, table_id, schema_name, table_name, is_automatic, status, "
        "start_time, end_time, rows, modified_rows, analyze_threshold_pct, previous_analyze_at "
        "FROM quper.analyze_history"
    )
    assert plain(target(loaded)) == plain(source(analyzed)) != []


@pytest.mark.parametrize("query_text", ["redacted", "none"])
def test_loads_show_no_data_of_customers(
    filled: Sandbox, sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch, query_text: str
) -> None:
    monkeypatch.setenv("SYNC_QUERY_TEXT", query_text)
    source("ALTER TABLE sys_load_error_detail RENAME TO renamed")
    try:
        assert sync("load_errors", "load_history", "table_recommendations").success
    finally:
        source("ALTER TABLE renamed RENAME TO sys_load_error_detail")
    shown = "SELECT count(*), count(file_name), count(raw_line), count(raw_field_value) FROM quper.load_errors"
    rows, *hidden = target(shown)[0]
    assert rows > 0 and hidden == [0, 0, 0]
    assert target("SELECT count(data_source) FROM quper.load_history") == [(0,)]
    source(
        "INSERT INTO stl_load_errors (query, starttime, filename, err_reason) "
        "VALUES (1, getdate(), 'f', 'Invalid digit, Value '','', Pos 2')"
    )
    assert target("SELECT count(*) FROM quper.load_errors WHERE error_message LIKE '%Value '',''%'") == [(0,)]
    ddl = target("SELECT bool_and(ddl LIKE 'ALTER TABLE \"%'), count(ddl_md5) > 0 FROM quper.table_recommendations")
    assert ddl == [(True if query_text == "redacted" else None, True)]


def test_an_ordinary_user_gets_the_missing_grants(
    filled: Sandbox, materialize: Materialize, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDSHIFT_USER", "qupersync_ordinary")
    result = materialize()
    assert not result.success
    rows = target("SELECT sync_job_id, error FROM quper.sync_logs WHERE status = 'failed'")
    failed = {str(job): str(error) for job, error in rows}
    superuser = {"table_recommendations", "auto_table_optimizations", "analyze_history", "wlm_queues", "wlm_rules"}
    assert {name.removesuffix("_sync") for name in failed} == superuser
    assert all("GRANT SELECT ON" in error for error in failed.values())
    own = {table for table, check in checks(result, "sees_all_rows").items() if not check.passed}
    assert own == {s.table.name for s in OPTIONAL} - superuser - SERVERLESS_ONLY
