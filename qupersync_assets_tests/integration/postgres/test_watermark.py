"""A history is read incrementally, and no row is missed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import JOB_NAME
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.settings import Settings
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.expected_rows import ORACLES, plain
from qupersync_assets_tests.support.integration import Materialize, Query, Sync

QUERY = (
    "INSERT INTO sys_query_history (user_id, query_id, status, start_time, end_time, query_label) "
    "VALUES (100, %s, %s, getdate() - %s::interval, NULL, %s)"
)
HELD = "SELECT query_id, status FROM quper.query_history ORDER BY query_id"
LOG = "SELECT rows_extracted, read_mode, read_from FROM quper.sync_logs ORDER BY id DESC LIMIT 1"


def yesterday(target: Query) -> None:
    """Move the previous runs to yesterday."""
    target("UPDATE quper.sync_logs SET started_at = started_at - interval '1 day'")


def test_only_new_rows_are_read(materialize: Materialize, source: Query, target: Query) -> None:
    for query_id, age in ((1, "3 days"), (2, "61 minutes"), (3, "10 minutes")):
        source(QUERY, [query_id, "success", age, None])
    assert materialize("query_history").success
    assert target(LOG) == [(3, "full", None)]
    source(QUERY, [4, "success", "1 second", None])
    source(QUERY, [5, "success", "2 days", None])  # later than Redshift ever is
    result = materialize("query_history")
    ((extracted, why, since),) = target(LOG)
    assert (extracted, why) == (3, "incremental")  # the newest row was ten minutes old: 2, 3 and 4
    newest = source("SELECT start_time FROM sys_query_history WHERE query_id = 3")[0][0].replace(tzinfo=UTC)
    assert (newest - since).total_seconds() == 3600
    (event,) = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert metadata["read_mode"].value == "incremental"
    assert metadata["read_reason"].value == "new rows since the last sync"
    assert metadata["read_from"].value == since.timestamp() < metadata["read_to"].value
    assert target(HELD) == [(n, "success") for n in (1, 2, 3, 4)]
    yesterday(target)
    assert materialize("query_history").success
    assert target(LOG) == [(5, "full", None)]
    assert target(HELD) == [(n, "success") for n in (1, 2, 3, 4, 5)]


def test_mutable_rows_are_read_again(sync: Sync, source: Query, target: Query) -> None:
    source(QUERY, [1, "running", "3 days", None])
    source(QUERY, [2, "success", "3 days", None])
    source(QUERY, [3, "success", "1 minute", None])
    assert sync("query_history").success
    source("UPDATE sys_query_history SET status = 'failed' WHERE query_id IN (1, 2)")
    assert sync("query_history").success
    assert target(LOG)[0][:2] == (2, "incremental")
    assert target(HELD) == [(1, "failed"), (2, "success"), (3, "success")]
    assert sync("query_history").success
    assert target(LOG)[0][:2] == (1, "incremental")


def test_an_emptied_target_is_filled_again(sync: Sync, source: Query, target: Query) -> None:
    for query_id, age in ((1, "3 days"), (2, "1 minute")):
        source(QUERY, [query_id, "success", age, None])
    for _ in range(2):
        assert sync("query_history").success
        target("TRUNCATE quper.query_history")
    assert sync("query_history").success
    assert target(HELD) == [(1, "success"), (2, "success")]


def test_a_full_refresh_is_configured_in_the_launchpad(
    sync: Sync, source: Query, target: Query, instance: dg.DagsterInstance
) -> None:
    source(QUERY, [1, "success", "1 minute", None])
    assert sync("query_history").success
    source(QUERY, [2, "success", "3 days", None])
    job = build_definitions(Settings.load()).resolve_job_def(JOB_NAME)
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(["quper", "query_history"])],
        run_config={"ops": {"quper__query_history": {"config": {"full_refresh": True}}}},
    )
    assert result.success
    assert target(LOG)[0][:2] == (2, "full")
    assert target(HELD) == [(1, "success"), (2, "success")]


def test_an_interrupted_read_is_completed_by_the_next(
    sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_BATCH_SIZE", "10")
    monkeypatch.setenv("SYNC_MAX_RETRIES", "0")
    source(QUERY, [1, "success", "6 days", None])
    assert sync("query_history").success
    source(
        "INSERT INTO sys_query_history (user_id, query_id, status, start_time) "
        "SELECT 100, n, 'success', getdate() - interval '3 hours' + n * interval '1 second' "
        "FROM generate_series(2, 100) n"
    )
    target(
        "CREATE FUNCTION quper.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF new.query_id = 55 THEN RAISE EXCEPTION 'no more' USING ERRCODE = '42000'; END IF; "
        "RETURN new; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON quper.query_history FOR EACH ROW EXECUTE FUNCTION quper.refuse()"
    )
    assert not sync("query_history").success
    assert 10 < target("SELECT count(*) FROM quper.query_history")[0][0] < 60
    target("DROP TRIGGER refuse ON quper.query_history")
    assert sync("query_history").success
    assert target("SELECT count(*) FROM quper.query_history") == [(100,)]


def test_rows_logged_at_the_end_of_a_long_query_are_read(sync: Sync, source: Query, target: Query) -> None:
    alert = (
        "INSERT INTO stl_alert_event_log (userid, query, slice, segment, step, event, event_time) "
        "VALUES (100, %s, 0, 0, 0, 'slow', getdate() - %s::interval)"
    )
    source(alert, [1, "1 minute"])
    source(QUERY, [9, "running", "5 hours", None])
    assert sync("query_history", "alert_events").success
    # The query ends now; the alert that it logs has the time of its start.
    source("UPDATE sys_query_history SET status = 'success', end_time = getdate() WHERE query_id = 9")
    source(alert, [2, "5 hours"])
    for _ in range(2):
        assert sync("query_history", "alert_events").success
    assert target("SELECT query FROM quper.alert_events ORDER BY 1") == [(1,), (2,)]
    logs = "SELECT DISTINCT read_mode FROM quper.sync_logs WHERE sync_job_id = 'alert_events_sync'"
    assert sorted(target(logs)) == [("full",), ("incremental",)]


def test_incremental_reads_give_the_same_rows_as_full_reads(
    filled: Sandbox, sync: Sync, source: Query, target: Query
) -> None:
    workload = filled.workload()  # no scan expires, which would make the expected sums of its hour smaller
    assert sync().success
    for _ in range(3):
        workload.advance(datetime.now(UTC))
        assert sync().success
    incremental = "SELECT count(*), sum(rows_extracted) FROM quper.sync_logs WHERE read_mode = 'incremental'"
    ((runs, extracted),) = target(incremental)
    whole = target("SELECT sum(rows_extracted) FROM quper.sync_logs WHERE read_reason = 'the target table is empty'")
    histories = [spec for spec in default_specs() if spec.kind == "history"]
    assert runs == 3 * len(histories) and extracted < whole[0][0] / 2
    for table in ("query_history", "alert_events", "table_scan_stats", "vacuum_history"):
        expected, actual = ORACLES[table]
        assert actual is not None
        held = set(plain(target(actual)))
        assert held >= set(plain(source(expected, ()))), table


def test_scans_on_both_sides_of_an_hour_are_counted_once(sync: Sync, source: Query, target: Query) -> None:
    scan = (
        "INSERT INTO stl_scan (userid, query, slice, segment, step, tbl, type, rows, starttime, endtime) "
        "VALUES (100, %s, %s, 0, 0, 7, 2, 5, date_trunc('hour', getdate()) - interval '1 hour' + %s::interval, "
        "getdate())"
    )
    for query, number, at in ((1, 0, "-1 second"), (1, 1, "1 second"), (2, 0, "59 minutes")):
        source(scan, [query, number, at])
    counts = "SELECT scans, rows FROM quper.table_scan_stats ORDER BY scan_hour"
    assert sync("table_scan_stats").success
    assert target(counts) == [(1, 10), (1, 5)]
    source(scan, [3, 0, "59 minutes"])
    assert sync("table_scan_stats").success
    assert target("SELECT DISTINCT read_mode FROM quper.sync_logs WHERE read_from IS NOT NULL") == [("incremental",)]
    assert target(counts) == [(1, 10), (2, 10)]


@pytest.mark.parametrize("wanted", ["false", "true"])
def test_own_queries_are_excluded_by_default(
    sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setenv("SYNC_INCLUDE_SELF", wanted)
    for query_id, label in ((1, None), (2, "qupersync"), (3, "etl")):
        source(QUERY, [query_id, "success", "1 minute", label])
    assert sync("query_history").success
    expected = [1, 2, 3] if wanted == "true" else [1, 3]
    assert [query_id for query_id, _ in target(HELD)] == expected


def test_a_row_of_the_future_does_not_set_the_watermark(sync: Sync, source: Query, target: Query) -> None:
    for query_id, age in ((1, "10 minutes"), (2, "-400 days")):
        source(QUERY, [query_id, "success", age, None])
    assert sync("query_history").success
    target("UPDATE quper.sync_logs SET started_at = now() + interval '1 day'")
    source(QUERY, [3, "success", "1 second", None])
    assert sync("query_history").success
    newest = source("SELECT start_time FROM sys_query_history WHERE query_id = 1")[0][0].replace(tzinfo=UTC)
    assert target(LOG) == [(3, "incremental", newest - timedelta(hours=1))]
    assert [query_id for query_id, _ in target(HELD)] == [1, 2, 3]


@pytest.fixture
def elsewhere(sandbox: Sandbox, source: Query, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process, the user of Redshift and that of PostgreSQL are in three time zones, none of them UTC."""
    zones = {"qupersync_reader": "Pacific/Auckland", sandbox.environment()["POSTGRES_USER"]: "America/Caracas"}
    for user, zone in zones.items():
        source(f"ALTER ROLE \"{user}\" SET timezone = '{zone}'")
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
    for user in zones:
        source(f'ALTER ROLE "{user}" RESET timezone')


def test_times_are_right_in_any_time_zone(elsewhere: None, sync: Sync, source: Query, target: Query) -> None:
    """GETDATE of the sandbox follows its session, which the product sets to UTC."""
    start = datetime.now(UTC) - timedelta(minutes=10)
    for query_id, age in ((1, timedelta(0)), (2, timedelta(days=6, hours=23)), (3, timedelta(days=7, hours=1))):
        source(
            QUERY.replace("getdate() - %s::interval", "%s"),
            [query_id, "success", (start - age).replace(tzinfo=None), None],
        )
    assert sync("query_history").success
    assert target("SELECT query_id FROM quper.query_history ORDER BY 1") == [(1,), (2,)]
    assert target("SELECT start_time FROM quper.query_history WHERE query_id = 1") == [(start,)]
    target("UPDATE quper.sync_logs SET started_at = now() + interval '1 day' WHERE read_mode = 'full'")
    assert sync("query_history").success
    assert target(LOG) == [(1, "incremental", start - timedelta(hours=1))]
    clocks = target("SELECT started_at, read_to, completed_at FROM quper.sync_logs ORDER BY id DESC LIMIT 1")[0]
    assert all(start < clock < start + timedelta(hours=1) for clock in clocks)
