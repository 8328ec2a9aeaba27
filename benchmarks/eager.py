"""A code location to compare with: the same assets under Dagster's default executor, with eager imports.

Its steps are processes that are started anew, one for each CPU at a time, and each imports everything.
"""

from __future__ import annotations

import alembic.command  # noqa: F401
import boto3  # noqa: F401
import dagster as dg
import pandas as pd  # noqa: F401
import redshift_connector  # noqa: F401

from qupersync_assets.defs import build_definitions
from qupersync_assets.settings import Settings

ours = build_definitions(Settings.load())

defs = dg.Definitions(
    assets=ours.assets, jobs=ours.jobs, resources=ours.resources, executor=dg.multiprocess_executor
)
