"""The two databases as resources, from the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
from pydantic import SecretStr

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.redshift.resource import AwsConfig, RedshiftResource
from qupersync_assets.settings import Settings
from qupersync_assets.settings.redshift import RedshiftSettings

# How a resource gets a secret of the settings, by its field.
Secret = Callable[[RedshiftSettings, str], Any]


def by_name(settings: RedshiftSettings, field: str) -> dg.EnvVar | None:
    """The secret's variable, if it is set: for definitions, which Dagster stores and shows."""
    return dg.EnvVar(settings.variable(field)) if getattr(settings, field) else None


def in_clear(settings: RedshiftSettings, field: str) -> str | None:
    """The secret itself: for a resource that is used without Dagster."""
    value: SecretStr | None = getattr(settings, field)
    return value.get_secret_value() if value else None


def redshift_resource(settings: RedshiftSettings, secret: Secret) -> RedshiftResource:
    """The source of one cluster."""
    return RedshiftResource(
        host=settings.redshift_host,
        port=settings.redshift_port,
        database=settings.redshift_database,
        user=settings.redshift_user,
        password=secret(settings, "redshift_password"),
        aws=AwsConfig(
            iam=settings.redshift_iam,
            cluster_identifier=settings.redshift_cluster_identifier,
            workgroup=settings.redshift_workgroup,
            account_id=settings.redshift_account_id,
            region=settings.redshift_region,
            secret_arn=settings.redshift_secret_arn,
            profile=settings.redshift_profile,
            access_key_id=secret(settings, "redshift_access_key_id"),
            secret_access_key=secret(settings, "redshift_secret_access_key"),
            session_token=secret(settings, "redshift_session_token"),
            prefix=settings.prefix,
        ),
        ssl=settings.redshift_ssl,
        sslmode=settings.redshift_sslmode,
        ssl_ca=str(settings.redshift_ssl_ca) if settings.redshift_ssl_ca else None,
        connect_timeout=settings.redshift_connect_timeout,
        statement_timeout=settings.redshift_statement_timeout,
    )


def postgres_resource(settings: Settings, secret: Secret) -> PostgresResource:
    """The target."""
    return PostgresResource(
        host=settings.postgres_host,
        port=settings.postgres_port,
        database=settings.postgres_database,
        user=settings.postgres_user,
        password=secret(settings, "postgres_password"),
        sslmode=settings.postgres_sslmode,
        connect_timeout=settings.postgres_connect_timeout,
        statement_timeout=settings.postgres_statement_timeout,
        auto_migrate=settings.sync_auto_migrate,
    )
