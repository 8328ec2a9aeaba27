"""Dagster's processes import Alembic only if they create or change tables."""

from __future__ import annotations

import subprocess
import sys

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets_tests.support.integration import Query

CODE = """
import sys
from qupersync_assets.serve.late_alembic import import_late
import_late()
from dagster_postgres import DagsterPostgresStorage
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.settings import Settings
assert "sqlalchemy" in sys.modules and "mako" not in sys.modules
if sys.argv[1] == "QuperSync":
    ensure_schema(PostgresResource(Settings.load()))
else:
    storage = DagsterPostgresStorage("postgresql+qupersync://")
    current, newest = storage.event_log_storage.alembic_version()
    assert current == newest
assert "mako" in sys.modules
"""


def test_it_is_imported_by_who_needs_it(bare: PostgresResource, target: Query) -> None:
    for of in ("QuperSync", "Dagster"):
        done = subprocess.run([sys.executable, "-c", CODE, of], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert target("SELECT to_regclass('quper.sync_logs') IS NOT NULL") == [(True,)]
