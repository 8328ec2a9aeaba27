"""Both databases as Dagster resources that run configuration cannot change, and the IO manager."""

from collections.abc import Iterator

import dagster as dg

from qupersync_assets.defs.io_manager import PostgresUpsertIOManager
from qupersync_assets.defs.names import IO_MANAGER_KEY, POSTGRES_KEY
from qupersync_assets.defs.partitions import resource_keys
from qupersync_assets.postgres.cluster_connections import ConnectionGate
from qupersync_assets.postgres.resource import PostgresResource, postgres_resource
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.settings import Settings


def build_resources(settings: Settings) -> dict[str, dg.ResourceDefinition | dg.IOManagerDefinition]:
    """Build the resources by their keys.

    They have no configuration: a user who may launch runs cannot choose where a password is sent.
    """
    redshifts = {key: _redshift(name, settings) for name, key in resource_keys(settings).items()}

    @dg.io_manager(
        config_schema={},
        required_resource_keys={POSTGRES_KEY},
        description="Loads sync jobs into schema quper with batched upserts.",
    )
    def io_manager(context: dg.InitResourceContext) -> PostgresUpsertIOManager:
        postgres: PostgresResource = getattr(context.resources, POSTGRES_KEY)
        return PostgresUpsertIOManager(postgres)

    # Without one of its own, each job has Dagster's IO manager, whose folder a launch may choose.
    own = {IO_MANAGER_KEY: io_manager, "io_manager": io_manager}
    return {**redshifts, POSTGRES_KEY: _postgres(settings), **own}


# Each process of a run builds them, and disposes of them at its end.
def _postgres(settings: Settings) -> dg.ResourceDefinition:
    @dg.resource(config_schema={}, description="The target PostgreSQL.")
    def resource(_context: dg.InitResourceContext) -> Iterator[PostgresResource]:
        postgres = postgres_resource(settings)
        try:
            yield postgres
        finally:
            postgres.dispose()

    return resource


def _redshift(cluster: str, settings: Settings) -> dg.ResourceDefinition:
    # The longest delays before the retries of a step: shorter outages are retried by each job.
    patience = max(60.0, settings.sync_retry_delay * (2**settings.sync_max_retries - 1))

    @dg.resource(config_schema={}, required_resource_keys={POSTGRES_KEY}, description=f"Redshift cluster {cluster}.")
    def resource(context: dg.InitResourceContext) -> Iterator[RedshiftResource]:
        postgres: PostgresResource = getattr(context.resources, POSTGRES_KEY)
        gate = ConnectionGate(postgres, cluster, context.run.run_id if context.run else "", patience)
        redshift = RedshiftResource(settings.by_cluster()[cluster], gate)
        try:
            yield redshift
        finally:
            redshift.dispose()

    return resource
