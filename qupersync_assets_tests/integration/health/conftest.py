"""Two clusters in a target."""

import pytest

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.health import Clusters
from qupersync_assets_tests.support.integration import Query


@pytest.fixture
def clusters(bare: PostgresResource, target: Query) -> Clusters:
    """Two clusters without rows, in a target with the tables of all jobs."""
    ensure_schema(bare, all_specs())
    return Clusters(bare, target)
