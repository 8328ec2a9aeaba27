"""Faults set at the gateway, and checks after each: no row is lost or invented, no secret is shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import dagster as dg
import pytest

from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.faults import Fault
from qupersync_assets.settings import Settings
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.integration.conftest import (
    environment,
    instance,
    logged,
    materialize,
    shared_instance,
    source,
    target,
)
from qupersync_assets_tests.support.expected_rows import oracle
from qupersync_assets_tests.support.integration import LOG_COLUMNS, Materialize, Query

__all__ = ["LOG_COLUMNS", "environment", "instance", "logged", "materialize", "shared_instance", "source", "target"]

SPECS = {spec.table.name: spec for spec in all_specs()}
NODES = "INSERT INTO stv_node_storage_capacity SELECT n, 7 * n, 9000 FROM generate_series(%s, %s) n"

SetFault = Callable[..., Fault]
Check = Callable[..., None]


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Return the first true value of a condition; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {condition}")


@contextmanager
def holding(connection: Any, statement: str) -> Iterator[Any]:
    """Hold the locks of a statement until the session's transaction ends, at the latest after 30 s."""
    with closing(connection):
        with connection.cursor() as cursor:
            cursor.execute("SET idle_in_transaction_session_timeout = '30s'")
            cursor.execute(statement)
        yield connection


@contextmanager
def meanwhile(action: Callable[[], Any]) -> Iterator[None]:
    """Run `action` in a thread during the block; raise its exception at the end."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
    for failure in failures:
        raise failure


@pytest.fixture
def fault(sandbox: Sandbox) -> Iterator[SetFault]:
    """Set the fault of the sandbox's gateway; remove it after the test."""

    def set_fault(action: Any, statement: str | None = None, **settings: Any) -> Fault:
        sandbox.gateway.fault = Fault(action, statement, **settings)
        return sandbox.gateway.fault

    yield set_fault
    sandbox.gateway.fault = None


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry batches after a short delay."""
    monkeypatch.setattr("qupersync_assets.postgres.batch_writer.RETRY_SECONDS", 0.1)


@pytest.fixture
def tables(target: Query) -> None:
    """Create the empty tables of the target, as a first run does."""
    ensure_schema(postgres_resource(Settings.load()))


@pytest.fixture
def sound(environment: dict[str, str], target: Query, instance: dg.DagsterInstance) -> Check:
    """Assert that all counts in quper.sync_logs balance, that no load is open, and that no secret was written."""

    def check() -> None:
        rows = target(f"SELECT {LOG_COLUMNS}, error, rows_upserted FROM quper.sync_logs")
        assert rows
        for extracted, *parts, batches, status, error, upserted in rows:
            assert extracted == sum(parts) and upserted == sum(parts[:3])
            assert bool(batches) == bool(extracted)
            assert status == "success" or (status == "failed" and error)
        text = "\n".join(str(row) for row in rows)
        for run in instance.get_runs():
            text += "\n".join(str(entry) for entry in instance.all_logs(run.run_id))
        assert not [name for name, value in environment.items() if "PASSWORD" in name and value in text]

    return check


@pytest.fixture
def converges(materialize: Materialize, source: Query, target: Query, sound: Check, sandbox: Sandbox) -> Check:
    """Assert that the next run of a table succeeds and that the table then equals its source."""

    def check(table: str) -> None:
        sandbox.gateway.fault = None
        assert materialize(table).success
        same(table)
        sound()

    def same(table: str) -> None:
        expected, actual = oracle(SPECS[table], source, target)
        assert actual == expected

    return check
