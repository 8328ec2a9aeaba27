"""Names, keys and tags of QuperSync's objects in Dagster."""

import dagster as dg

from qupersync_assets.spec import SyncSpec

IO_MANAGER_KEY = "postgres_io_manager"
POSTGRES_KEY = "postgres"
JOB_NAME = "qupersync_main"
HEALTH_NAME = "qupersync_health"

# Dagster's job for assets that are selected in the UI, of any code location.
ASSET_JOB = "__ASSET_JOB"

# What started a run: schedule, sensor, manual, cli, or the name of another client.
TRIGGER_TAG = "qupersync/trigger"
CLUSTER_TAG = "qupersync/cluster"
SCHEDULED_TAG = "qupersync/scheduled_at"

# Followed by a sync_job_id: the checks of the job that have an error in this run.
CHECK_ERROR_TAG = "qupersync/check_error."


HEALTH_KEY = dg.AssetKey(["quper", "health_findings"])


def asset_key(spec: SyncSpec) -> dg.AssetKey:
    """Return the key of a job's asset: ["quper", table]."""
    return dg.AssetKey([spec.table.schema or "", spec.table.name])


def source_key(view: str) -> dg.AssetKey:
    """Return the key of the external asset of a Redshift view."""
    return dg.AssetKey(["redshift", view])
