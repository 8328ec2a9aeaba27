"""Dagster's storage uses its connections again; those of the target end with their locks."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from qupersync_assets.postgres.advisory_lock import JobConnection
from qupersync_assets.postgres.connection import URL
from qupersync_assets.postgres.kept_connections import keep
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets_tests.support.integration import Query

BACKEND = sa.text("SELECT pg_backend_pid()")


@pytest.fixture
def storage(environment: dict[str, str]) -> sa.Engine:
    """An engine as Dagster's storage has it."""
    return sa.create_engine(URL, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)


def backend(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(BACKEND).scalar_one())


def test_the_next_query_uses_the_connection(storage: sa.Engine, environment: dict[str, str]) -> None:
    other = sa.create_engine(URL, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    first = backend(storage)
    assert backend(other) == backend(storage) == first
    with storage.connect() as connection:
        assert connection.execute(BACKEND).scalar_one() == first
        assert backend(other) != first


def test_a_connection_that_the_server_has_ended_is_replaced(storage: sa.Engine, target: Query) -> None:
    first = backend(storage)
    assert target("SELECT pg_terminate_backend(%s, 5000)", [first]) == [(True,)]
    assert backend(storage) != first


def test_a_connection_in_a_transaction_is_not_kept(storage: sa.Engine) -> None:
    with storage.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.cursor().execute("BEGIN")
        assert not keep(raw)
        raw.cursor().execute("ROLLBACK")
        assert keep(raw)
        connection.invalidate()


def test_a_forked_process_has_connections_of_its_own(storage: sa.Engine) -> None:
    first = backend(storage)
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, str(backend(storage)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 20)) != first
    assert backend(storage) == first


def test_a_lock_of_the_target_ends_with_its_connection(postgres: PostgresResource, target: Query) -> None:
    ensure_schema(postgres)
    for _ in range(2):
        with closing(JobConnection(postgres.engine(), "one", "job")) as job, job.begin():
            pass  # a kept session would still hold the lock


def test_an_instance_opens_few_sessions(dagster_home: Path, target: Query) -> None:
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        sessions = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
        [(before,)] = target(sessions)
        for number in range(20):
            instance.add_dynamic_partitions("numbers", [str(number)])
            assert instance.get_runs(limit=1) == []
        [(after,)] = target(sessions)
        assert len(instance.get_dynamic_partitions("numbers")) == 20
    assert after - before < 5
