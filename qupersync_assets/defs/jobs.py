"""The Dagster jobs: one for all sync jobs, and one per sync job."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from qupersync_assets.defs.executors import run_tags
from qupersync_assets.defs.names import JOB_NAME, TRIGGER_TAG, asset_key
from qupersync_assets.defs.partitions import tagged
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec


def build_jobs(specs: Sequence[SyncSpec], settings: Settings) -> list[Any]:
    """Build the job of all assets, first, and one job per asset.

    A schedule or sensor replaces the trigger tag; runs started in the UI keep it.
    """
    arguments = tagged(settings, {TRIGGER_TAG: "manual", **run_tags(settings)})

    def define(name: str, of: Sequence[SyncSpec], description: str) -> Any:
        selection = dg.AssetSelection.assets(*map(asset_key, of))
        return dg.define_asset_job(name, selection, description=description, **arguments)

    text = "Redshift to PostgreSQL sync: all sync jobs, each independent of the others."
    single_jobs = (
        define(spec.sync_job_id, [spec], f"Redshift to PostgreSQL sync of {spec.table.fullname} alone.")
        for spec in specs
    )
    return [define(JOB_NAME, specs, text), *single_jobs]
