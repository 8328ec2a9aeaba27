"""From a spec to its asset, with its checks, and how fresh it must be."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from qupersync_assets.defs.asset_checks import check_results, check_specs
from qupersync_assets.defs.asset_metadata import definition_metadata, description, source_key
from qupersync_assets.defs.partitions import cluster_of_step, partitions_of, resource_keys
from qupersync_assets.defs.run_health import asset_key
from qupersync_assets.redshift.prefetch import read_ahead
from qupersync_assets.redshift.query_text import protect
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.redshift.source import read
from qupersync_assets.rows.source_read import Feed, Source
from qupersync_assets.settings import Settings
from qupersync_assets.spec.sync_spec import SyncSpec

IO_MANAGER_KEY = "postgres_io_manager"


class SyncConfig(dg.Config):
    """What one may ask of a run in the launchpad."""

    full_refresh: bool = Field(
        default=False, description="Read all that Redshift holds, and not only what is new."
    )


def build_asset(spec: SyncSpec, settings: Settings) -> dg.AssetsDefinition:
    """The asset of a sync job, with its checks in the same step, to save a process."""
    key = asset_key(spec)
    sources = resource_keys(settings)

    @dg.asset(
        key=key,
        deps=[source_key(view) for view in spec.all_sources],
        group_name="quper",
        kinds={"redshift", "postgres"},
        owners=[settings.asset_owner],
        description=description(spec, settings),
        tags={"sync_job_id": spec.sync_job_id, "kept_as": spec.kind},
        metadata=definition_metadata(spec, settings),
        partitions_def=partitions_of(settings),
        required_resource_keys=set(sources.values()),
        io_manager_key=IO_MANAGER_KEY,
        check_specs=check_specs(key, spec, settings),
        retry_policy=dg.RetryPolicy(
            max_retries=settings.sync_max_retries,
            delay=settings.sync_retry_delay,
            backoff=dg.Backoff.EXPONENTIAL,
            jitter=dg.Jitter.PLUS_MINUS,
        ),
        freshness_policy=_freshness(settings.sync_interval),
    )
    def sync(context: dg.AssetExecutionContext, config: SyncConfig) -> Iterator[Any]:
        cluster = cluster_of_step(context, list(sources))
        redshift: RedshiftResource = getattr(context.resources, sources[cluster])
        source = Source()
        pages = read(redshift, spec, settings.sync_batch_size, source, settings.sync_include_self)
        pages = read_ahead(protect(spec, pages, settings.sync_query_text), redshift.cut_off)
        feed = Feed(spec, cluster, pages, source, config.full_refresh)
        yield dg.Output(feed)  # returns when the IO manager has loaded it
        yield from check_results(feed, settings.sync_max_skipped_ratio)

    return sync


def _freshness(interval: int) -> dg.FreshnessPolicy:
    """Warn after two intervals, fail after three; Dagster takes no window below a minute."""
    warn = max(2 * interval, 60)
    return dg.FreshnessPolicy.time_window(
        warn_window=timedelta(seconds=warn), fail_window=timedelta(seconds=max(3 * interval, warn + 30))
    )
