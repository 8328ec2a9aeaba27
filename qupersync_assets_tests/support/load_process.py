"""A process that runs sync assets once, for tests that kill it: `python -m qupersync_assets_tests.support.load_process TABLE`."""

from __future__ import annotations

import sys

import dagster as dg

from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import JOB_NAME
from qupersync_assets.settings import Settings

if __name__ == "__main__":
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(Settings.load()).resolve_job_def(JOB_NAME)
        keys = [dg.AssetKey(["quper", table]) for table in sys.argv[1:]]
        job.execute_in_process(instance=instance, asset_selection=keys)
