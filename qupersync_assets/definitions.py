"""Assembles everything; the only file that imports all others."""

from __future__ import annotations

import dagster as dg

from qupersync_assets.alerts.sensor import build_alerts
from qupersync_assets.assets import IO_MANAGER_KEY, build_asset, build_sources
from qupersync_assets.clusters import resource_keys, tagged
from qupersync_assets.executors import build_executor, run_tags
from qupersync_assets.io_manager import PostgresUpsertIOManager
from qupersync_assets.maintenance import build_maintenance
from qupersync_assets.resources import by_name, postgres_resource, redshift_resource
from qupersync_assets.runs import JOB_NAME
from qupersync_assets.schedule import build_automation
from qupersync_assets.settings import Settings
from qupersync_assets.syncs import all_specs


def build_definitions(settings: Settings) -> dg.Definitions:
    """The whole code location for the given settings. Secrets stay in the environment, by name."""
    specs = all_specs()
    assets = [build_asset(spec, settings) for spec in specs]
    job = dg.define_asset_job(
        JOB_NAME,
        selection=dg.AssetSelection.assets(*assets),
        description="Redshift to PostgreSQL Sync: all sync jobs, each on its own.",
        **tagged(settings, run_tags(settings)),
    )
    schedules, sensors = build_automation(specs, settings, job)
    maintenance, daily = build_maintenance(specs, settings)
    sources = settings.by_cluster()
    alerts, notifiers = build_alerts(specs, settings)
    postgres = postgres_resource(settings, by_name)
    return dg.Definitions(
        assets=[*build_sources(specs), *assets],
        jobs=[job, maintenance],
        schedules=[*schedules, daily],
        sensors=[*sensors, *alerts],
        resources={
            **{
                key: redshift_resource(sources[name], by_name)
                for name, key in resource_keys(settings).items()
            },
            **notifiers,
            "postgres": postgres,
            IO_MANAGER_KEY: PostgresUpsertIOManager(
                postgres=postgres,
                lookback=settings.sync_lookback,
                max_silence=settings.max_silence,
            ),
        },
        executor=build_executor(settings),
    )


defs = build_definitions(Settings.load())
