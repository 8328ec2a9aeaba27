"""From a spec to its asset: the external assets it reads, the asset with its checks, how fresh it must be."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field
from sqlalchemy.dialects import postgresql

from qupersync_assets.ahead import read_ahead
from qupersync_assets.checks import check_results, check_specs
from qupersync_assets.clusters import cluster_of_step, partitions_of, resource_keys
from qupersync_assets.feed import Feed, Source
from qupersync_assets.query_text import protect
from qupersync_assets.redshift import RedshiftResource
from qupersync_assets.runs import asset_key
from qupersync_assets.settings import Settings
from qupersync_assets.sources import read
from qupersync_assets.spec import SyncSpec
from qupersync_assets.views import column_types

IO_MANAGER_KEY = "postgres_io_manager"
OWNERS = ["team:data-platform"]


class SyncConfig(dg.Config):
    """What one may ask of a run in the launchpad."""

    full_refresh: bool = Field(
        default=False, description="Read all that Redshift holds, and not only what is new."
    )


def source_key(view: str) -> dg.AssetKey:
    """The key of the external asset that stands for a Redshift view."""
    return dg.AssetKey(["redshift", view])


def build_sources(specs: Sequence[SyncSpec]) -> list[dg.AssetSpec]:
    """One external asset for each Redshift view that the jobs read."""
    return [
        dg.AssetSpec(
            source_key(view),
            group_name="redshift",
            kinds={"redshift"},
            description=f"System view {view} of the Redshift cluster. Read, never written.",
            metadata={
                "dagster/column_schema": dg.TableSchema(
                    [dg.TableColumn(name, type=type_) for name, type_ in column_types(view).items()]
                )
            },
        )
        for view in sorted({view for spec in specs for view in spec.all_sources})
    ]


def build_asset(spec: SyncSpec, settings: Settings) -> dg.AssetsDefinition:
    """The asset of a sync job, with its checks in the same step, to save a process."""
    key = asset_key(spec)
    sources = resource_keys(settings)
    partitions = partitions_of(settings)
    description = f"{spec.description}\n\n{spec.table.comment}"
    if partitions is not None:
        description += "\n\nEach cluster is a partition; the freshness is that of the one synced last."

    @dg.asset(
        key=key,
        deps=[source_key(view) for view in spec.all_sources],
        group_name="quper",
        kinds={"redshift", "postgres"},
        owners=OWNERS,
        description=description,
        tags={"sync_job_id": spec.sync_job_id, "source": spec.kind},
        metadata=_definition_metadata(spec),
        partitions_def=partitions,
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


def _definition_metadata(spec: SyncSpec) -> dict[str, Any]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    key = {c.name for c in spec.key}
    lineage: dict[str, list[dg.TableColumnDep]] = {}
    for target, view, source in spec.lineage():
        lineage.setdefault(target, []).append(dg.TableColumnDep(source_key(view), source))
    return {
        "dagster/table_name": spec.table.fullname,
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn(
                    c.name,
                    type=c.type.compile(dialect).lower(),
                    description=c.comment,
                    constraints=dg.TableColumnConstraints(
                        nullable=bool(c.nullable), other=["primary key"] if c.name in key else []
                    ),
                )
                for c in spec.table.c
            ]
        ),
        "dagster/column_lineage": dg.TableColumnLineage(lineage),
        "unique_key": ", ".join(c.name for c in spec.key),
    }
