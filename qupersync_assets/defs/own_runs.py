"""Distinguishes the runs of one QuperSync from those of other code in the same Dagster instance."""

from collections.abc import Sequence

import dagster as dg

from qupersync_assets.defs.names import ASSET_JOB, STANDALONE, Placement, target_tag
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec


def selects_assets(run: dg.DagsterRun, specs: Sequence[SyncSpec], placement: Placement = STANDALONE) -> bool:
    """Return whether a run was started for selected assets, and some are those of sync jobs."""
    return not (run.asset_selection or frozenset()).isdisjoint(placement.asset_key(spec) for spec in specs)


def is_sync(run: dg.DagsterRun, specs: Sequence[SyncSpec], placement: Placement = STANDALONE) -> bool:
    """Return whether a run has the job of all sync jobs, or that of one."""
    return run.job_name in {placement.main_job, *(placement.job(spec) for spec in specs)}


def is_own(
    run: dg.DagsterRun, specs: Sequence[SyncSpec], settings: Settings, placement: Placement = STANDALONE
) -> bool:
    """Return whether a run has a job of this QuperSync: of syncs, of health or of maintenance.

    In an instance of others a run of selected assets is theirs: its executor is, and they may have selected more. A job
    of the same name may be that of another QuperSync, with another target.
    """
    others = (placement.health_job, placement.maintenance_job)
    if not placement.standalone:
        is_job = is_sync(run, specs, placement) or run.job_name in others
        return is_job and target_tag(settings).items() <= run.tags.items()
    if run.job_name == ASSET_JOB:
        keys = {placement.health_key, *(placement.asset_key(spec) for spec in specs)}
        return not keys.isdisjoint(run.asset_selection or ())
    return is_sync(run, specs, placement) or run.job_name in others
