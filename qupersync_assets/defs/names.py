"""Names, keys and tags that Dagster knows QuperSync's objects by."""

from __future__ import annotations

import dagster as dg

from qupersync_assets.spec import SyncSpec

IO_MANAGER_KEY = "postgres_io_manager"
POSTGRES_KEY = "postgres"

JOB_NAME = "qupersync_main"

# Materializing by hand in the UI makes runs of this job, whatever code location the assets are of.
ASSET_JOB = "__ASSET_JOB"

# What started a run: schedule, sensor, manual, or another word of whoever starts one.
TRIGGER_TAG = "qupersync/trigger"


def asset_key(spec: SyncSpec) -> dg.AssetKey:
    """The key of a job's asset: ["quper", table]."""
    return dg.AssetKey([spec.table.schema or "", spec.table.name])


CLUSTER_TAG = "qupersync/cluster"

SCHEDULED_TAG = "qupersync/scheduled_at"


def source_key(view: str) -> dg.AssetKey:
    """The key of the external asset that stands for a Redshift view."""
    return dg.AssetKey(["redshift", view])
