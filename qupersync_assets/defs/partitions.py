"""The clusters as partitions of the assets, and the cluster of a step or a run.

One cluster needs no partitions: https://docs.dagster.io/guides/build/partitions-and-backfills.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from qupersync_assets.defs.names import CLUSTER_TAG, Placement
from qupersync_assets.settings import Settings


def partitions_of(settings: Settings) -> dg.StaticPartitionsDefinition | None:
    """Return a partition for each cluster, or None for one cluster."""
    names = list(settings.by_cluster())
    return dg.StaticPartitionsDefinition(names) if len(names) > 1 else None


def resource_keys(settings: Settings, placement: Placement) -> dict[str, str]:
    """Return the resource key of each cluster: `redshift`, or `redshift_<name>` if there are several."""
    clusters = settings.by_cluster()
    if len(clusters) == 1:
        return dict.fromkeys(clusters, placement.resource("redshift"))
    return {name: placement.resource(source.prefix.lower()) for name, source in clusters.items()}


def tagged(settings: Settings, tags: Mapping[str, str] = {}) -> dict[str, Any]:
    """Return the arguments of a job whose runs carry `tags` and the tag of their cluster."""
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
    """Return the cluster that a step syncs: its partition, or the only one.

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
    """Return the cluster that a run syncs, also one that is not in `clusters`; None if it is not known."""
    # A run of selected assets has the tag of its partition alone.
    tag = run.tags.get(CLUSTER_TAG) or run.tags.get("dagster/partition")
    return tag or (clusters[0] if len(clusters) == 1 else None)
