"""Builds Dagster's definitions from the settings."""

import dagster as dg

from qupersync_assets.defs.asset_metadata import build_sources
from qupersync_assets.defs.assets import build_asset
from qupersync_assets.defs.executors import build_executor
from qupersync_assets.defs.health import build_health
from qupersync_assets.defs.jobs import build_jobs
from qupersync_assets.defs.living_runs import show_living_runs
from qupersync_assets.defs.resources import build_resources
from qupersync_assets.defs.retention_job import build_maintenance
from qupersync_assets.defs.schedules import build_schedules
from qupersync_assets.defs.sensors import build_sensors
from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.settings import Settings
from qupersync_assets.sync.job_choice import jobs_on
from qupersync_assets.sync_jobs import all_specs

__all__ = ["build_definitions"]


def build_definitions(settings: Settings) -> dg.Definitions:
    """Build assets, checks, jobs, schedules, sensors, resources and executor; alerts are added by
    `qupersync_assets.definitions`. A job that is off has none; its rows, logs and last runs are still looked after."""
    specs = jobs_on(settings)
    jobs = build_jobs(specs, settings)
    retention_job, retention_schedule = build_maintenance(all_specs(), settings)
    syncs = dg.Definitions(
        assets=[*build_sources(specs, settings), *(build_asset(spec, settings) for spec in specs)],
        jobs=[*jobs, retention_job],
        schedules=[*build_schedules(all_specs(), settings, jobs[0]), retention_schedule],
        sensors=build_sensors(all_specs(), settings, jobs[0]),
        resources=build_resources(settings),
        executor=show_living_runs(build_executor(settings), postgres_resource(settings)),
    )
    return dg.Definitions.merge(syncs, build_health(specs, settings))
