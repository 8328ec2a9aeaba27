"""Names, keys and tags of QuperSync's objects in Dagster."""

from dataclasses import dataclass

import dagster as dg
import sqlalchemy as sa

from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec

IO_MANAGER_KEY = "postgres_io_manager"
POSTGRES_KEY = "postgres"

# Dagster's job for assets that are selected in the UI, of any code location.
ASSET_JOB = "__ASSET_JOB"

# What started a run: schedule, sensor, manual, cli, or the name of another client.
TRIGGER_TAG = "qupersync/trigger"
CLUSTER_TAG = "qupersync/cluster"
SCHEDULED_TAG = "qupersync/scheduled_at"
# The database into which a run loads: host:port/database. It distinguishes jobs of the same name.
TARGET_TAG = "qupersync/target"

# Followed by a sync_job_id: the checks of the job that have an error in this run.
CHECK_ERROR_TAG = "qupersync/check_error."


@dataclass(frozen=True)
class Placement:
    """How one QuperSync is placed in a Dagster code location.

    Args:
        name: begins the names of jobs, schedules and sensors.
        key_prefix: the first parts of the keys of its assets.
        standalone: whether code location and Dagster instance are QuperSync's own: jobs have the names of sync jobs
            then, resources have no prefix, and its executor is that of the code location.
        running: whether schedules and sensors run until a user stops them, or are stopped until a user starts them.
    """

    name: str = "qupersync"
    key_prefix: tuple[str, ...] = ()
    standalone: bool = False
    running: bool = False

    @property
    def main_job(self) -> str:
        """The name of the job of all sync jobs."""
        return f"{self.name}_main"

    @property
    def health_job(self) -> str:
        """The name of the job that looks for problems of the clusters."""
        return f"{self.name}_health"

    @property
    def maintenance_job(self) -> str:
        """The name of the job that deletes old data."""
        return f"{self.name}_maintenance"

    @property
    def schedule(self) -> str:
        """The name of the schedule of the syncs."""
        return f"{self.main_job}_schedule"

    def job(self, spec: SyncSpec) -> str:
        """Return the name of the job of one sync job."""
        return spec.sync_job_id if self.standalone else f"{self.name}_{spec.sync_job_id}"

    def resource(self, key: str) -> str:
        """Return the key of a resource: `redshift`, or `qupersync_redshift` beside resources of others."""
        return key if self.standalone else f"{self.name}_{key}"

    def asset_key(self, spec: SyncSpec) -> dg.AssetKey:
        """Return the key of a job's asset: ["quper", table] after the prefix."""
        return self.table_key(spec.table)

    def table_key(self, table: sa.Table) -> dg.AssetKey:
        """Return the key of the asset of a table in the target."""
        return self._key(table.schema or "", table.name)

    def source_key(self, view: str) -> dg.AssetKey:
        """Return the key of the external asset of a Redshift view."""
        return self._key("redshift", view)

    @property
    def health_key(self) -> dg.AssetKey:
        """The key of the asset of findings."""
        return self._key("quper", "health_findings")

    def _key(self, *parts: str) -> dg.AssetKey:
        return dg.AssetKey([*self.key_prefix, *parts])

    @property
    def schedule_status(self) -> dg.DefaultScheduleStatus:
        """The status of schedules that no user has switched."""
        return dg.DefaultScheduleStatus.RUNNING if self.running else dg.DefaultScheduleStatus.STOPPED

    @property
    def sensor_status(self) -> dg.DefaultSensorStatus:
        """The status of sensors that no user has switched."""
        return dg.DefaultSensorStatus.RUNNING if self.running else dg.DefaultSensorStatus.STOPPED


# The code location that workspace.yaml names.
STANDALONE = Placement(standalone=True, running=True)
JOB_NAME = STANDALONE.main_job
HEALTH_NAME = STANDALONE.health_job
HEALTH_KEY = STANDALONE.health_key
asset_key = STANDALONE.asset_key


def target_tag(settings: Settings) -> dict[str, str]:
    """Return the tag of all runs of a QuperSync with these settings."""
    return {TARGET_TAG: f"{settings.postgres_endpoint}/{settings.postgres_database}"}
