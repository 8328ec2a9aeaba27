"""A code location for comparison: the same assets with Dagster's default executor, each step a new process."""

from __future__ import annotations

import dagster as dg

from qupersync_assets.defs import build_definitions
from qupersync_assets.settings import Settings

built = build_definitions(Settings.load())

defs = dg.Definitions(
    assets=built.assets, jobs=built.jobs, resources=built.resources, executor=dg.multiprocess_executor
)
