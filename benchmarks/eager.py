"""A code location for comparison: the same assets with Dagster's default executor and eager imports.

Its steps are new processes, one per CPU at a time, and each imports all modules.
"""

from __future__ import annotations

import alembic.command  # noqa: F401
import boto3  # noqa: F401
import dagster as dg
import pandas as pd  # noqa: F401
import redshift_connector  # noqa: F401

from qupersync_assets.defs import build_definitions
from qupersync_assets.settings import Settings

built = build_definitions(Settings.load())

defs = dg.Definitions(
    assets=built.assets, jobs=built.jobs, resources=built.resources, executor=dg.multiprocess_executor
)
