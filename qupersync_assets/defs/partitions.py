"""Several clusters: the partitions of the assets, and which cluster a step or a run is of.

With one cluster there are no partitions: https://docs.dagster.io/guides/build/partitions-and-backfills.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG

from qupersync_assets.defs.names import CLUSTER_TAG
from qupersync_assets.settings import Settings


def partitions_of(settings: Settings) -> dg.StaticPartitionsDefinition | None:
    """A partition for each cluster, or None for one cluster."""
    names = list(settings.by_cluster())
    return dg.StaticPartitionsDefinition(names) if len(names) > 1 else None


def resource_keys(settings: Settings) -> dict[str, str]:
    """The key of each cluster's resource: `redshift`, or of several `redshift_<name>`."""
    clusters = settings.by_cluster()
    if len(clusters) == 1:
        return dict.fromkeys(clusters, "redshift")
    return {name: source.prefix.lower() for name, source in clusters.items()}


def tagged(settings: Settings, tags: Mapping[str, str] = {}) -> dict[str, Any]:
    """The arguments of a job whose runs carry the tag of their cluster, besides `tags`."""
    partitions = partitions_of(settings)
    if partitions is None:
        [cluster] = settings.by_cluster()
        return {"tags": {CLUSTER_TAG: cluster, **tags}}
    config = dg.PartitionedConfig(
        partitions,
        run_config_for_partition_key_fn=lambda _cluster: {},
        tags_for_partition_key_fn=lambda cluster: {CLUSTER_TAG: cluster},
    )
    return {"tags": dict(tags), "config": config}


def cluster_of_step(context: dg.AssetExecutionContext, clusters: Sequence[str]) -> str:
    """The cluster that a step syncs: its partition, or the only one.

    Raises:
        Failure: the run has no partition, or more than one.
    """
    if len(clusters) == 1:
        return clusters[0]
    if not context.has_partition_key:
        names = ", ".join(clusters)
        raise dg.Failure(f"A run syncs one cluster: choose a partition of {names}.", allow_retries=False)
    return str(context.partition_key)


def cluster_of_run(run: dg.DagsterRun, clusters: Sequence[str]) -> str | None:
    """The cluster that a run syncs, be it one of `clusters` or not; None if it may be any of them."""
    # A run by hand of a single asset has no tag of ours.
    told = run.tags.get(CLUSTER_TAG) or run.tags.get(PARTITION_NAME_TAG)
    return told or (clusters[0] if len(clusters) == 1 else None)
