"""Both databases as Dagster resources that run configuration cannot change, and the IO manager."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import dagster as dg

from qupersync_assets.defs.io_manager import PostgresUpsertIOManager
from qupersync_assets.defs.names import IO_MANAGER_KEY, POSTGRES_KEY
from qupersync_assets.defs.partitions import resource_keys
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.settings import Settings


def postgres_resource(settings: Settings) -> PostgresResource:
    """Build the resource of the target."""
    return PostgresResource(settings, auto_migrate=settings.sync_auto_migrate)


def build_resources(settings: Settings) -> dict[str, dg.ResourceDefinition | dg.IOManagerDefinition]:
    """Build the resources by their keys.

    They have no configuration: a user who may launch runs cannot choose where a password is sent.
    """
    sources = settings.by_cluster()
    redshifts = {
        key: _definition(partial(RedshiftResource, sources[name]), f"Redshift cluster {name}.")
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

    postgres = _definition(partial(postgres_resource, settings), "The target PostgreSQL.")
    return {**redshifts, POSTGRES_KEY: postgres, IO_MANAGER_KEY: io_manager}


def _definition(make: Callable[[], RedshiftResource | PostgresResource], description: str) -> dg.ResourceDefinition:
    """Define a resource that each process of a run builds, and disposes of at its end."""

    @dg.resource(config_schema={}, description=description)
    def resource(_context: dg.InitResourceContext) -> Iterator[RedshiftResource | PostgresResource]:
        made = make()
        try:
            yield made
        finally:
            made.dispose()

    return resource
