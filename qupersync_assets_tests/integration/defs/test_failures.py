"""A failing job has a clear error without secrets, and does not affect the other jobs."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.history import backfill
from qupersync_assets_tests.support.integration import Materialize, Query

JOBS = [spec.sync_job_id for spec in default_specs()]


@pytest.fixture
def filled(sandbox: Sandbox, environment: dict[str, str]) -> None:
    backfill(sandbox, 200)


def statuses(target: Query) -> dict[str, tuple[str, str | None]]:
    rows = target("SELECT sync_job_id, status, error FROM quper.sync_logs")
    return {job: (status, error) for job, status, error in rows}


def story(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> str:
    """All log entries of the run."""
    return "\n".join(str(entry) for entry in instance.all_logs(result.run_id))


@pytest.fixture
def secrets(environment: dict[str, str]) -> Iterator[list[str]]:
    yield [environment["REDSHIFT_PASSWORD"], environment["POSTGRES_PASSWORD"]]


@pytest.mark.parametrize(
    ("breaking", "fixing", "words"),
    [
        (
            "REVOKE SELECT ON stl_vacuum, sys_vacuum_history FROM qupersync_reader",
            "GRANT SELECT ON stl_vacuum, sys_vacuum_history TO qupersync_reader",
            ['GRANT SELECT ON stl_vacuum, sys_vacuum_history TO "qupersync_reader"', "may not", "42501"],
        ),
        (
            "ALTER TABLE stl_vacuum RENAME COLUMN xid TO yid",
            "ALTER TABLE stl_vacuum RENAME COLUMN yid TO xid",
            ["stl_vacuum.xid", "quper.vacuum_history", "42703"],
        ),
    ],
)
def test_a_broken_source_fails_only_its_job(
    filled: None,
    materialize: Materialize,
    source: Query,
    target: Query,
    instance: dg.DagsterInstance,
    breaking: str,
    fixing: str,
    words: list[str],
) -> None:
    source(breaking)
    try:
        result = materialize()
    finally:
        source(fixing)
    assert not result.success
    found = statuses(target)
    assert {job for job, (status, _) in found.items() if status == "success"} == {*JOBS} - {"vacuum_history_sync"}
    status, error = found["vacuum_history_sync"]
    assert status == "failed"
    assert error is not None and all(word in error for word in words), error
    # A permanent error is not retried.
    assert target("SELECT attempts FROM quper.sync_logs WHERE status = 'failed'") == [(1,)]
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert all(word in str(failure.step_failure_data.error) for word in words)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("REDSHIFT_PASSWORD", "wrong-s3cret", ["password authentication failed", "REDSHIFT_PASSWORD"]),
        ("REDSHIFT_PORT", "1", ["127.0.0.1:1", "refused"]),
        ("REDSHIFT_HOST", "no-such-host.invalid", ["no-such-host.invalid", "REDSHIFT_HOST"]),
        ("REDSHIFT_DATABASE", "nowhere", ["nowhere"]),
        ("REDSHIFT_SSL", "true", ["127.0.0.1"]),
    ],
)
def test_a_failed_connection_to_redshift_is_reported(
    materialize: Materialize,
    target: Query,
    instance: dg.DagsterInstance,
    secrets: list[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    words: list[str],
) -> None:
    monkeypatch.setenv(variable, value)
    result = materialize("node_details", "applications")
    assert not result.success
    for status, error in statuses(target).values():
        assert status == "failed"
        assert error is not None and all(word in error for word in words), error
    attempts = target("SELECT DISTINCT attempts FROM quper.sync_logs")
    assert attempts == [(2 if variable == "REDSHIFT_PORT" else 1,)]  # only an outage is transient
    assert not any(secret in story(result, instance) for secret in [*secrets, "wrong-s3cret"])


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("POSTGRES_PASSWORD", "wrong-s3cret", ["password authentication failed", "POSTGRES_PASSWORD"]),
        ("POSTGRES_PORT", "1", ["127.0.0.1:1", "refused"]),
        ("POSTGRES_DATABASE", "nowhere", ["nowhere", "POSTGRES_DATABASE"]),
    ],
)
def test_a_failed_connection_to_postgresql_is_reported(
    materialize: Materialize,
    instance: dg.DagsterInstance,
    secrets: list[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    words: list[str],
) -> None:
    monkeypatch.setenv(variable, value)
    result = materialize("node_details")
    assert not result.success
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert all(word in str(failure.step_failure_data.error) for word in words)
    assert not any(secret in story(result, instance) for secret in [*secrets, "wrong-s3cret"])


def test_a_slow_statement_times_out(
    materialize: Materialize, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDSHIFT_STATEMENT_TIMEOUT", "1")
    monkeypatch.setenv("SYNC_MAX_RETRIES", "0")
    source(
        "ALTER TABLE stv_node_storage_capacity RENAME TO capacity; "
        "CREATE VIEW stv_node_storage_capacity AS SELECT c.* FROM pg_sleep(30) LEFT JOIN redshift.capacity c ON true; "
        "GRANT SELECT ON stv_node_storage_capacity TO qupersync_reader"
    )
    try:
        assert not materialize("node_details").success
    finally:
        source("DROP VIEW stv_node_storage_capacity; ALTER TABLE capacity RENAME TO stv_node_storage_capacity")
    ((status, error),) = statuses(target).values()
    assert status == "failed"
    assert error is not None and "57014" in error and "REDSHIFT_STATEMENT_TIMEOUT" in error


def test_a_resource_does_not_show_its_password(postgres: PostgresResource, environment: dict[str, str]) -> None:
    assert environment["POSTGRES_PASSWORD"] not in f"{postgres!r} {postgres.engine()!r} {postgres}"
