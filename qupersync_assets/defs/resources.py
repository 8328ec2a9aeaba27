"""Both databases as Dagster resources that run configuration cannot change, and the IO manager."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import dagster as dg

from qupersync_assets.core.forks import is_forked_run
from qupersync_assets.defs.io_manager import PostgresUpsertIOManager
from qupersync_assets.defs.names import IO_MANAGER_KEY, POSTGRES_KEY, STANDALONE, Placement
from qupersync_assets.defs.partitions import resource_keys
from qupersync_assets.postgres.resource import PostgresResource, postgres_resource
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.settings import Settings
from qupersync_assets.sync.load_job import redshift_resource


def build_resources(
    settings: Settings, placement: Placement = STANDALONE
) -> dict[str, dg.ResourceDefinition | dg.IOManagerDefinition]:
    """Build the resources by their keys.

    They have no configuration: a user who may launch runs cannot choose where a password is sent.
    """
    postgres_key = placement.resource(POSTGRES_KEY)
    redshifts = {
        key: _redshift(name, settings, postgres_key) for name, key in resource_keys(settings, placement).items()
    }

    @dg.io_manager(
        config_schema={},
        required_resource_keys={postgres_key},
        description="Loads sync jobs into schema quper with batched upserts.",
    )
    def io_manager(context: dg.InitResourceContext) -> PostgresUpsertIOManager:
        postgres: PostgresResource = getattr(context.resources, postgres_key)
        return PostgresUpsertIOManager(postgres, placement)

    resources = {**redshifts, postgres_key: _postgres(settings), placement.resource(IO_MANAGER_KEY): io_manager}
    # Without one of its own, each job has Dagster's IO manager, whose folder a launch may choose.
    return {**resources, "io_manager": io_manager} if placement.standalone else resources


_Resource = TypeVar("_Resource", PostgresResource, RedshiftResource)


# Each process of a run builds them, and disposes of them at its end. One that is a fork may execute several steps: it
# keeps them, and so its connections and compiled statements.
@contextmanager
def _of_process(kept: dict[int, _Resource], build: Callable[[], _Resource]) -> Iterator[_Resource]:
    if is_forked_run():
        yield kept.setdefault(os.getpid(), kept.get(os.getpid()) or build())
        return
    resource = build()
    try:
        yield resource
    finally:
        resource.dispose()


def _postgres(settings: Settings) -> dg.ResourceDefinition:
    kept: dict[int, PostgresResource] = {}

    @dg.resource(config_schema={}, description="The target PostgreSQL.")
    def resource(_context: dg.InitResourceContext) -> Iterator[PostgresResource]:
        with _of_process(kept, partial(postgres_resource, settings)) as postgres:
            yield postgres

    return resource


def _redshift(cluster: str, settings: Settings, postgres_key: str) -> dg.ResourceDefinition:
    kept: dict[int, RedshiftResource] = {}

    @dg.resource(config_schema={}, required_resource_keys={postgres_key}, description=f"Redshift cluster {cluster}.")
    def resource(context: dg.InitResourceContext) -> Iterator[RedshiftResource]:
        postgres: PostgresResource = getattr(context.resources, postgres_key)
        run_id = context.run.run_id if context.run else ""
        with _of_process(kept, partial(redshift_resource, settings, postgres, cluster, run_id)) as redshift:
            yield redshift

    return resource
