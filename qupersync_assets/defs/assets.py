"""Builds the asset of a sync job, with its checks and its freshness policy."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from qupersync_assets.defs.asset_checks import asset_check_results, check_specs
from qupersync_assets.defs.asset_metadata import definition_metadata, description, observations
from qupersync_assets.defs.check_tags import tag_check_errors
from qupersync_assets.defs.io_manager import DEFINITION, LoadOutput
from qupersync_assets.defs.names import IO_MANAGER_KEY, Placement
from qupersync_assets.defs.partitions import cluster_of_step, partitions_of, resource_keys
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.job_choice import jobs_by_cluster
from qupersync_assets.sync.load_job import sync_request

# The run configuration of a sync job, for the launchpad. Not a dg.Config, whose fields may name a variable of the
# environment in place of a value.
RUN_CONFIG = {
    "full_refresh": dg.Field(
        bool, default_value=False, description="Read everything that Redshift holds, not only new rows."
    )
}


def build_asset(spec: SyncSpec, settings: Settings, placement: Placement) -> dg.AssetsDefinition:
    """Build the asset of a sync job; its checks run in the same step, which saves a process."""
    key = placement.asset_key(spec)
    resources = resource_keys(settings, placement)
    retry_policy = dg.RetryPolicy(
        max_retries=settings.sync_max_retries,
        delay=settings.sync_retry_delay,
        backoff=dg.Backoff.EXPONENTIAL,
        jitter=dg.Jitter.PLUS_MINUS,
    )
    on = {cluster for cluster, specs in jobs_by_cluster(settings).items() if spec in specs}

    @dg.asset(
        key=key,
        deps=[placement.source_key(view) for view in spec.all_sources],
        group_name="quper",
        kinds={"redshift", "postgres"},
        owners=[settings.asset_owner],
        description=description(spec, settings, placement),
        tags={"sync_job_id": spec.sync_job_id, "kept_as": spec.kind},
        metadata=definition_metadata(spec, settings, placement),
        partitions_def=partitions_of(settings),
        required_resource_keys=set(resources.values()),
        io_manager_key=placement.resource(IO_MANAGER_KEY),
        check_specs=check_specs(key, spec, settings),
        retry_policy=retry_policy,
        config_schema=RUN_CONFIG,
        freshness_policy=_freshness(max(settings.interval(cluster, spec.sync_job_id) for cluster in on)),
    )
    def sync(context: dg.AssetExecutionContext) -> Iterator[Any]:
        cluster = cluster_of_step(context, list(resources))
        redshift: RedshiftResource = getattr(context.resources, resources[cluster])
        full_refresh: bool = context.op_execution_context.op_config["full_refresh"]
        number = context.retry_number + 1
        request = sync_request(settings, redshift, spec, cluster, number=number, full_refresh=full_refresh)
        output = LoadOutput(request, context.add_asset_metadata, _known_definition(context))
        yield dg.Output(output)  # Dagster resumes here after the IO manager has loaded it
        outcome = output.outcome.result(timeout=0)
        partition = cluster if len(resources) > 1 else None
        yield from observations(outcome.result, partition, placement, context.instance)
        results = asset_check_results(outcome)
        tag_check_errors(context, spec, results)
        yield from results

    return sync


def _known_definition(context: dg.AssetExecutionContext) -> str:
    """Return the digest that the last materialization of the asset, or of the partition, has."""
    partitions = [context.partition_key] if context.has_partition_key else None
    records = dg.AssetRecordsFilter(context.asset_key, asset_partitions=partitions)
    for record in context.instance.fetch_materializations(records, limit=1).records:
        found = record.asset_materialization
        return str(found.metadata[DEFINITION].value) if found and DEFINITION in found.metadata else ""
    return ""


def _freshness(interval: int) -> dg.FreshnessPolicy:
    """Warn after two intervals, fail after three; Dagster refuses windows below one minute.

    A policy is that of the asset, not of a partition: the longest interval of the clusters decides.
    """
    warn = max(2 * interval, 60)
    return dg.FreshnessPolicy.time_window(
        warn_window=timedelta(seconds=warn), fail_window=timedelta(seconds=max(3 * interval, warn + 30))
    )
