"""Assembles everything; the only file that imports all others."""

from __future__ import annotations

import dagster as dg

from qupersync_assets.assets import IO_MANAGER_KEY, build_asset, build_sources
from qupersync_assets.io_manager import PostgresUpsertIOManager
from qupersync_assets.postgres import PostgresResource
from qupersync_assets.redshift import AwsConfig, RedshiftResource
from qupersync_assets.runs import JOB_NAME
from qupersync_assets.schedule import CLUSTER_TAG, build_automation
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
        tags={CLUSTER_TAG: settings.cluster_name},
    )
    schedules, sensors = build_automation(specs, settings, job)
    postgres = PostgresResource(
        host=settings.postgres_host,
        port=settings.postgres_port,
        database=settings.postgres_database,
        user=settings.postgres_user,
        password=_by_name(settings, "postgres_password"),
        sslmode=settings.postgres_sslmode,
        connect_timeout=settings.postgres_connect_timeout,
        statement_timeout=settings.postgres_statement_timeout,
    )
    return dg.Definitions(
        assets=[*build_sources(specs), *assets],
        jobs=[job],
        schedules=schedules,
        sensors=sensors,
        resources={
            "redshift": RedshiftResource(
                host=settings.redshift_host,
                port=settings.redshift_port,
                database=settings.redshift_database,
                user=settings.redshift_user,
                password=_by_name(settings, "redshift_password"),
                aws=AwsConfig(
                    iam=settings.redshift_iam,
                    cluster_identifier=settings.redshift_cluster_identifier,
                    workgroup=settings.redshift_workgroup,
                    account_id=settings.redshift_account_id,
                    region=settings.redshift_region,
                    secret_arn=settings.redshift_secret_arn,
                    profile=settings.redshift_profile,
                    access_key_id=_by_name(settings, "redshift_access_key_id"),
                    secret_access_key=_by_name(settings, "redshift_secret_access_key"),
                    session_token=_by_name(settings, "redshift_session_token"),
                ),
                ssl=settings.redshift_ssl,
                sslmode=settings.redshift_sslmode,
                ssl_ca=str(settings.redshift_ssl_ca) if settings.redshift_ssl_ca else None,
                connect_timeout=settings.redshift_connect_timeout,
                statement_timeout=settings.redshift_statement_timeout,
            ),
            "postgres": postgres,
            IO_MANAGER_KEY: PostgresUpsertIOManager(
                postgres=postgres, cluster=settings.cluster_name, max_silence=settings.max_silence
            ),
        },
        # A forked server that has imported everything starts a step in a fraction of a fresh process's time.
        executor=dg.multiprocess_executor.configured(
            {"max_concurrent": 4, "start_method": {"forkserver": {"preload_modules": [__name__]}}}
        ),
    )


def _by_name(settings: Settings, secret: str) -> dg.EnvVar | None:
    """The secret's variable, if it is set."""
    return dg.EnvVar(secret.upper()) if getattr(settings, secret) else None


defs = build_definitions(Settings.load())
