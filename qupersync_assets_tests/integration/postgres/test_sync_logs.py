"""Rows of quper.sync_logs while a run loads, and after it was terminated or killed."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import Any

import dagster as dg
import pytest

from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.run_health import close_logs, close_stale_rows
from qupersync_assets.postgres import sync_logs
from qupersync_assets.postgres.advisory_lock import JobConnection
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.settings import Settings
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.demo_process import until
from qupersync_assets_tests.support.integration import Materialize, Query, Sync


def test_a_running_row_has_the_counts_of_its_batches(
    sandbox: Sandbox, sync: Sync, source: Query, target: Query
) -> None:
    assert sync("node_details").success
    source("INSERT INTO stv_node_storage_capacity SELECT n, n, 9000 FROM generate_series(1, 2500) n")
    # The last batch has to wait for this row; the first two are through by then.
    with closing(sandbox.connect_quper()) as blocker, blocker.cursor() as cursor:
        cursor.execute("INSERT INTO quper.node_details (cluster, node) VALUES ('sandbox', 2400)")
        thread = threading.Thread(target=sync, args=("node_details",))
        thread.start()
        deadline = time.monotonic() + 20
        seen = None
        while seen != ("running", 2000, 2, None, None) and time.monotonic() < deadline:
            rows = target(
                "SELECT status, rows_extracted, batches, completed_at, duration_ms FROM quper.sync_logs "
                "ORDER BY id DESC LIMIT 1"
            )
            seen = rows[0]
            time.sleep(0.05)
        blocker.rollback()
        thread.join()
    assert seen == ("running", 2000, 2, None, None)
    row = target(
        "SELECT status, rows_extracted, rows_upserted, batches, duration_ms >= 0, completed_at >= started_at "
        "FROM quper.sync_logs ORDER BY id DESC LIMIT 1"
    )
    assert row == [("success", 2500, 2500, 3, True, True)]


@dg.job
def nothing() -> None:
    """A job whose runs load nothing."""


@pytest.mark.parametrize(
    ("ending", "status"),
    [(dg.DagsterRunStatus.FAILURE, "failed"), (dg.DagsterRunStatus.CANCELED, "canceled"), (None, "failed")],
)
def test_rows_of_finished_runs_are_closed(
    postgres: PostgresResource,
    target: Query,
    instance: dg.DagsterInstance,
    ending: dg.DagsterRunStatus | None,
    status: str,
) -> None:
    run_id = "00000000-0000-4000-8000-000000000000"
    if ending is not None:  # otherwise Dagster does not know the run
        run = instance.create_run_for_job(nothing, run_id=run_id, status=dg.DagsterRunStatus.STARTED)
        if ending == dg.DagsterRunStatus.FAILURE:
            instance.report_run_failed(run)
        else:
            instance.report_run_canceled(run)
    with postgres.transaction() as connection:
        sync_logs.start(connection, "sandbox", "node_details_sync", run_id)
    close_stale_rows(instance, postgres, all_specs(), Settings.load())
    rows = target("SELECT status, error IS NOT NULL, completed_at IS NOT NULL FROM quper.sync_logs")
    assert rows == [(status, True, True)]


def test_a_row_of_an_unknown_run_is_closed_after_its_load(
    postgres: PostgresResource, target: Query, instance: dg.DagsterInstance
) -> None:
    status = "SELECT status FROM quper.sync_logs"
    with closing(JobConnection(postgres.engine(), "sandbox", "node_details_sync")) as other:
        with other.begin() as connection:
            sync_logs.start(connection, "sandbox", "node_details_sync", "unknown here")
        close_stale_rows(instance, postgres, all_specs(), Settings.load())
        assert target(status) == [("running",)]
    until(
        lambda: close_stale_rows(instance, postgres, all_specs(), Settings.load()) or target(status) == [("failed",)],
        20,
    )


def test_a_run_that_could_not_reach_postgresql_is_logged_later(
    postgres: PostgresResource,
    materialize: Materialize,
    target: Query,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "1")
    run_id = materialize("node_details", "applications").run_id
    assert target("SELECT count(*) FROM quper.sync_logs") == [(0,)]
    record = instance.get_run_record_by_id(run_id)
    assert record is not None
    for expected in (2, 0):  # the second call has nothing to close
        assert close_logs(instance, postgres, "sandbox", all_specs(), record) == expected
    rows = target("SELECT sync_job_id, status, error FROM quper.sync_logs WHERE run_id = %s ORDER BY 1", [run_id])
    assert [row[:2] for row in rows] == [("application_sync", "failed"), ("node_details_sync", "failed")]
    assert all("POSTGRES_PORT" in error for *_, error in rows)


def test_the_sensor_adds_the_rows_of_failed_runs_once(
    bare: PostgresResource,
    materialize: Materialize,
    target: Query,
    monkeypatch: pytest.MonkeyPatch,
    instance: dg.DagsterInstance,
) -> None:
    def evaluate(cursor: str | None) -> Any:
        sensor = build_definitions(Settings.load()).resolve_sensor_def("qupersync_close_stale_rows")
        resources = {"postgres": bare}
        with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
            return sensor.evaluate_tick(context)

    first = evaluate(None)  # without a schema
    with monkeypatch.context() as outage:
        outage.setenv("POSTGRES_PORT", "1")
        materialize("node_details")
    second = evaluate(first.cursor)
    assert target("SELECT sync_job_id, status FROM quper.sync_logs") == [("node_details_sync", "failed")]
    assert second.cursor != first.cursor
    assert evaluate(second.cursor).cursor == second.cursor
