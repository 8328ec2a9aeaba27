"""Runs without a sign of life: dead runs block no tick and are reported, loading runs are not."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import dagster as dg
import pytest

from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import JOB_NAME
from qupersync_assets.postgres import sync_logs
from qupersync_assets.postgres.advisory_lock import JobConnection
from qupersync_assets.postgres.process_lock import ProcessLock
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.settings import Settings
from qupersync_assets_tests.support.integration import Query
from qupersync_assets_tests.support.ticks import Ticker, last_tick
from qupersync_assets_tests.unit.conftest import instance, shared_instance

# An instance with a folder, which a tick needs.
__all__ = ["instance", "shared_instance"]

Status = dg.DagsterRunStatus
JOB = "node_details_sync"


@pytest.fixture(params=["300", "430"], ids=["schedule", "sensor"])
def definitions(
    request: pytest.FixtureRequest, postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> dg.Definitions:
    """Definitions whose runs are silent at once."""
    monkeypatch.setenv("SYNC_INTERVAL", request.param)
    monkeypatch.setattr(Settings, "max_silence", 0.0)
    return build_definitions(Settings.load())


def create_run(instance: dg.DagsterInstance, status: Status, **tags: str) -> str:
    run_id = f"00000000-0000-4000-8000-{len(instance.get_run_ids()):012}"
    job = dg.job(name=JOB_NAME)(lambda: None)
    instance.create_run_for_job(job, run_id=run_id, status=status, tags=tags)
    return run_id


def tick(definitions: dg.Definitions, instance: dg.DagsterInstance) -> Any:
    """Evaluate the newest tick, with any delay."""
    ticker = Ticker(definitions, instance)
    return ticker.look(last_tick(time.time(), 300))


def evaluate_sensor(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    resources = {"postgres": (definitions.resources or {})["postgres"]}
    with dg.build_sensor_context(instance, resources=resources) as context:
        definitions.resolve_sensor_def("qupersync_close_stale_rows").evaluate_tick(context)


def status_of(instance: dg.DagsterInstance, run_id: str) -> Status:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


@pytest.fixture(autouse=True)
def any_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval sensor evaluates a tick that may be minutes old."""
    monkeypatch.setenv("SYNC_MISFIRE_GRACE", "1000")


@pytest.mark.parametrize("status", [Status.NOT_STARTED, Status.STARTING, Status.STARTED, Status.CANCELING])
def test_a_silent_run_without_a_lock_is_dead(
    definitions: dg.Definitions, instance: dg.DagsterInstance, target: Query, status: Status
) -> None:
    run_id = create_run(instance, status)
    assert len(tick(definitions, instance).run_requests) == 1
    evaluate_sensor(definitions, instance)
    assert status_of(instance, run_id) == Status.FAILURE


def test_a_silent_run_that_loads_is_alive_until_its_lock_is_released(
    definitions: dg.Definitions, instance: dg.DagsterInstance, postgres: PostgresResource, target: Query
) -> None:
    loading, dead = create_run(instance, Status.STARTED), create_run(instance, Status.STARTED)
    with closing(JobConnection(postgres.engine(), "sandbox", JOB)) as load:
        with load.begin() as connection:
            sync_logs.start(connection, "sandbox", JOB, loading)
        assert loading in tick(definitions, instance).skip_message
        evaluate_sensor(definitions, instance)
        assert status_of(instance, loading) == Status.STARTED
        assert status_of(instance, dead) == Status.FAILURE
        assert target("SELECT status FROM quper.sync_logs") == [("running",)]
    assert len(tick(definitions, instance).run_requests) == 1
    evaluate_sensor(definitions, instance)
    assert status_of(instance, loading) == Status.FAILURE
    assert target("SELECT status FROM quper.sync_logs") == [("failed",)]


def test_a_silent_run_whose_process_lives_on_any_machine_is_alive(
    definitions: dg.Definitions, instance: dg.DagsterInstance, postgres: PostgresResource, target: Query
) -> None:
    run_id, unknown = create_run(instance, Status.STARTED), "run-of-another-instance"
    with postgres.transaction() as connection:
        for run in (run_id, unknown):
            sync_logs.start(connection, "sandbox", JOB, run)
    locks = [ProcessLock(postgres.engine(), run, "a process") for run in (run_id, unknown)]
    assert all(lock.take() for lock in locks)
    assert run_id in tick(definitions, instance).skip_message
    evaluate_sensor(definitions, instance)
    assert status_of(instance, run_id) == Status.STARTED
    assert set(target("SELECT status FROM quper.sync_logs")) == {("running",)}
    for lock in locks:
        lock.release()
    for _ in range(100):  # the end of a session takes a moment
        if not target("SELECT pid FROM pg_locks WHERE locktype = 'advisory'"):
            break
        time.sleep(0.05)
    evaluate_sensor(definitions, instance)
    assert status_of(instance, run_id) == Status.FAILURE
    assert set(target("SELECT status FROM quper.sync_logs")) == {("failed",)}


def test_rows_of_a_cluster_that_the_settings_no_longer_name_are_closed(
    definitions: dg.Definitions, instance: dg.DagsterInstance, postgres: PostgresResource, target: Query
) -> None:
    run_id = create_run(instance, Status.STARTED, **{"qupersync/cluster": "removed"})
    with postgres.transaction() as connection:
        sync_logs.start(connection, "removed", JOB, run_id)
        sync_logs.start(connection, "removed", JOB, "unknown")
    evaluate_sensor(definitions, instance)
    assert status_of(instance, run_id) == Status.FAILURE
    assert set(target("SELECT cluster, status FROM quper.sync_logs")) == {("removed", "failed")}


def test_the_end_of_a_load_is_a_sign_of_life(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    postgres: PostgresResource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = create_run(instance, Status.STARTED)
    with postgres.transaction() as connection:
        log_id = sync_logs.start(connection, "sandbox", JOB, run_id)
        sync_logs.finish(connection, log_id, SyncStatus.SUCCESS)
    monkeypatch.setattr(Settings, "max_silence", 5.0)
    monkeypatch.setattr("qupersync_assets.defs.run_health._is_silent", lambda *_: True)
    assert run_id in tick(definitions, instance).skip_message
    monkeypatch.setattr(Settings, "max_silence", 0.0)
    assert len(tick(definitions, instance).run_requests) == 1


def test_a_run_of_a_foreign_cluster_is_ignored(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    run_id = create_run(instance, Status.STARTED, **{"qupersync/cluster": "other"})
    evaluate_sensor(definitions, instance)
    assert status_of(instance, run_id) == Status.STARTED


def test_a_run_of_a_launcher_with_a_health_check_is_never_dead(
    definitions: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(instance.run_launcher), "supports_check_run_worker_health", True)
    run_id = create_run(instance, Status.STARTED)
    evaluate_sensor(definitions, instance)
    assert status_of(instance, run_id) == Status.STARTED
