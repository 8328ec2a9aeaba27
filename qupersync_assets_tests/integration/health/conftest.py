"""Two clusters in a target, whose schema the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.settings.postgres import StorageSettings
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.integration.conftest import _empty_tables, _query
from qupersync_assets_tests.support.health import Clusters


@pytest.fixture(scope="module")
def health_target(sandbox: Sandbox) -> Iterator[PostgresResource]:
    """A target with the tables of all jobs."""
    with closing(sandbox.connect_quper()) as connection, connection, connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS quper CASCADE")
    login: dict[str, Any] = {
        name.lower(): value for name, value in sandbox.environment().items() if name.startswith("POSTGRES_")
    }
    postgres = PostgresResource(StorageSettings.load(**login))
    ensure_schema(postgres, all_specs())
    yield postgres
    postgres.dispose()


@pytest.fixture
def clusters(health_target: PostgresResource, sandbox: Sandbox) -> Clusters:
    """Two clusters without rows."""
    with closing(sandbox.connect_quper()) as connection, connection, connection.cursor() as cursor:
        _empty_tables(cursor, "quper", "schema_version")
    return Clusters(health_target, _query(sandbox.connect_quper))
