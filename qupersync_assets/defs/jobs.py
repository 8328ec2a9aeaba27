"""The Dagster jobs: one for all sync jobs, and one per sync job."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from qupersync_assets.defs.executors import run_tags
from qupersync_assets.defs.names import TRIGGER_TAG, Placement, target_tag
from qupersync_assets.defs.partitions import tagged
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec


def build_jobs(
    specs: Sequence[SyncSpec], settings: Settings, placement: Placement, executor: dg.ExecutorDefinition
) -> list[Any]:
    """Build the job of all assets, first, and one job per asset; each has the executor.

    A schedule or sensor replaces the trigger tag; runs started in the UI keep it.
    """
    arguments = tagged(settings, {TRIGGER_TAG: "manual", **target_tag(settings), **run_tags(settings)})

    def define(name: str, of: Sequence[SyncSpec], description: str) -> Any:
        selection = dg.AssetSelection.assets(*map(placement.asset_key, of))
        return dg.define_asset_job(name, selection, description=description, executor_def=executor, **arguments)

    text = "Syncs all tables from Redshift to PostgreSQL, each independent of the others. The schedule runs this job."
    by_hand = f"Only users start it: the schedule runs {placement.main_job}, which includes this table."
    single_jobs = (
        define(placement.job(spec), [spec], f"Syncs only {spec.table.fullname}. {by_hand}") for spec in specs
    )
    return [define(placement.main_job, specs, text), *single_jobs]
