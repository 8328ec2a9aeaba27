"""Both databases as Dagster resources that run configuration cannot change, and the IO manager."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Protocol, TypeVar

import dagster as dg
from pydantic import SecretStr

from qupersync_assets.defs.io_manager import PostgresUpsertIOManager
from qupersync_assets.defs.names import IO_MANAGER_KEY, POSTGRES_KEY
from qupersync_assets.defs.partitions import resource_keys
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.redshift.authentication import Aws
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.settings import Settings
from qupersync_assets.settings.redshift import RedshiftSettings


def redshift_resource(settings: RedshiftSettings) -> RedshiftResource:
    """The source of one cluster."""
    return RedshiftResource(
        host=settings.redshift_host,
        port=settings.redshift_port,
        database=settings.redshift_database,
        user=settings.redshift_user,
        password=_plain(settings.redshift_password),
        aws=Aws(
            iam=settings.redshift_iam,
            cluster_identifier=settings.redshift_cluster_identifier,
            workgroup=settings.redshift_workgroup,
            account_id=settings.redshift_account_id,
            region=settings.redshift_region,
            secret_arn=settings.redshift_secret_arn,
            profile=settings.redshift_profile,
            access_key_id=_plain(settings.redshift_access_key_id),
            secret_access_key=_plain(settings.redshift_secret_access_key),
            session_token=_plain(settings.redshift_session_token),
            prefix=settings.prefix,
        ),
        ssl=settings.redshift_ssl,
        sslmode=settings.redshift_sslmode,
        ssl_ca=str(settings.redshift_ssl_ca) if settings.redshift_ssl_ca else None,
        connect_timeout=settings.redshift_connect_timeout,
        statement_timeout=settings.redshift_statement_timeout,
    )


def postgres_resource(settings: Settings) -> PostgresResource:
    """The target."""
    return PostgresResource(
        host=settings.postgres_host,
        port=settings.postgres_port,
        database=settings.postgres_database,
        user=settings.postgres_user,
        password=_plain(settings.postgres_password),
        sslmode=settings.postgres_sslmode,
        connect_timeout=settings.postgres_connect_timeout,
        statement_timeout=settings.postgres_statement_timeout,
        auto_migrate=settings.sync_auto_migrate,
    )


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


class _Disposable(Protocol):
    def dispose(self) -> None: ...


D = TypeVar("D", bound=_Disposable)


def build_resources(settings: Settings) -> dict[str, dg.ResourceDefinition | dg.IOManagerDefinition]:
    """Build the resources by their keys.

    They have no configuration: whoever may launch a run cannot choose where a password is sent.
    """
    sources = settings.by_cluster()
    resources: dict[str, dg.ResourceDefinition | dg.IOManagerDefinition] = {
        key: _definition(partial(redshift_resource, sources[name]), f"Redshift cluster {name}.")
        for name, key in resource_keys(settings).items()
    }

    @dg.io_manager(
        config_schema={},
        required_resource_keys={POSTGRES_KEY},
        description="Loads sync jobs into schema quper with batched upserts.",
    )
    def io_manager(context: dg.InitResourceContext) -> PostgresUpsertIOManager:
        postgres: PostgresResource = getattr(context.resources, POSTGRES_KEY)
        return PostgresUpsertIOManager(postgres, timedelta(seconds=settings.sync_lookback))

    resources[POSTGRES_KEY] = _definition(partial(postgres_resource, settings), "The target PostgreSQL.")
    resources[IO_MANAGER_KEY] = io_manager
    return resources


def _definition(make: Callable[[], D], description: str) -> dg.ResourceDefinition:
    """A resource that is made for each process of a run, and disposed of at its end."""

    @dg.resource(config_schema={}, description=description)
    def resource(_context: dg.InitResourceContext) -> Iterator[D]:
        made = make()
        try:
            yield made
        finally:
            made.dispose()

    return resource
