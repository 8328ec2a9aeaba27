"""Assembles everything; the only file that imports all others."""

from __future__ import annotations

import dagster as dg

from qupersync_assets.alerts.sensor import build_alerts
from qupersync_assets.defs.asset_metadata import build_sources
from qupersync_assets.defs.assets import IO_MANAGER_KEY, build_asset
from qupersync_assets.defs.executors import build_executor, run_tags
from qupersync_assets.defs.io_manager import PostgresUpsertIOManager
from qupersync_assets.defs.partitions import resource_keys, tagged
from qupersync_assets.defs.resources import by_name, postgres_resource, redshift_resource
from qupersync_assets.defs.retention_job import build_maintenance
from qupersync_assets.defs.run_health import JOB_NAME, TRIGGER_TAG
from qupersync_assets.defs.schedules import build_automation
from qupersync_assets.settings import Settings
from qupersync_assets.sync_jobs import all_specs


def build_definitions(settings: Settings) -> dg.Definitions:
    """The whole code location for the given settings. Secrets stay in the environment, by name."""
    specs = all_specs()
    assets = [build_asset(spec, settings) for spec in specs]
    # A schedule or sensor says what it is instead; what is started in the UI keeps these.
    tags = {TRIGGER_TAG: "manual", **run_tags(settings)}
    job = dg.define_asset_job(
        JOB_NAME,
        selection=dg.AssetSelection.assets(*assets),
        description="Redshift to PostgreSQL Sync: all sync jobs, each on its own.",
        **tagged(settings, tags),
    )
    # One of these for each asset, to start it or to look at its runs alone.
    single = [
        dg.define_asset_job(
            spec.sync_job_id,
            selection=dg.AssetSelection.assets(asset),
            description=f"Redshift to PostgreSQL Sync: {spec.table.fullname} alone.",
            **tagged(settings, tags),
        )
        for spec, asset in zip(specs, assets, strict=True)
    ]
    schedules, sensors = build_automation(specs, settings, job)
    maintenance, daily = build_maintenance(specs, settings)
    sources = settings.by_cluster()
    alerts, notifiers = build_alerts(specs, settings)
    postgres = postgres_resource(settings, by_name)
    return dg.Definitions(
        assets=[*build_sources(specs, settings), *assets],
        jobs=[job, *single, maintenance],
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
