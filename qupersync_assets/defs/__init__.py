"""Builds Dagster's definitions from the settings."""

import dagster as dg

from qupersync_assets.defs.asset_metadata import build_sources
from qupersync_assets.defs.assets import build_asset
from qupersync_assets.defs.executors import build_executor
from qupersync_assets.defs.health import build_health
from qupersync_assets.defs.jobs import build_jobs
from qupersync_assets.defs.living_runs import show_living_runs
from qupersync_assets.defs.names import STANDALONE, Placement
from qupersync_assets.defs.resources import build_resources
from qupersync_assets.defs.retention_job import build_maintenance
from qupersync_assets.defs.schedules import build_schedules
from qupersync_assets.defs.sensors import build_sensors
from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.settings import Settings
from qupersync_assets.sync.job_choice import jobs_on
from qupersync_assets.sync_jobs import all_specs

__all__ = ["build_definitions"]


def build_definitions(
    settings: Settings, placement: Placement = STANDALONE, executor: dg.ExecutorDefinition | None = None
) -> dg.Definitions:
    """Build assets, checks, jobs, schedules, sensors and resources; alerts are added by `qupersync_assets.component`.

    A job that is off has no asset; its rows, logs and last runs are still looked after. `executor` replaces that of
    SYNC_EXECUTOR. It is that of each job, and of a code location of our own.
    """
    specs = jobs_on(settings)
    executor = show_living_runs(executor or build_executor(settings), postgres_resource(settings))
    jobs = build_jobs(specs, settings, placement, executor)
    retention_job, retention_schedule = build_maintenance(all_specs(), settings, placement)
    syncs = dg.Definitions(
        assets=[
            *build_sources(specs, settings, placement),
            *(build_asset(spec, settings, placement) for spec in specs),
        ],
        jobs=[*jobs, retention_job],
        schedules=[*build_schedules(all_specs(), settings, jobs[0], placement), retention_schedule],
        sensors=build_sensors(all_specs(), settings, jobs[0], placement),
        resources=build_resources(settings, placement),
        executor=executor if placement.standalone else None,  # also of runs of selected assets
    )
    return dg.Definitions.merge(syncs, build_health(specs, settings, placement))
