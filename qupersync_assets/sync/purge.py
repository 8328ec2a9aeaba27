"""Deletes old rows of all clusters from the target."""

from collections import Counter
from collections.abc import Sequence

from qupersync_assets.postgres.clusters import cluster_names
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.retention import purge_daily, purge_health, purge_history, purge_logs, purge_removed
from qupersync_assets.spec import SyncSpec

# Rows that the source has lost are deleted after this time if QUPER_RETENTION_DAYS is not set.
REMOVED_DAYS = 90


def purge_target(
    postgres: PostgresResource,
    specs: Sequence[SyncSpec],
    *,
    log_days: float,
    history_days: float | None,
    daily_days: float | None,
    dry_run: bool,
) -> list[tuple[str, float, int]]:
    """Delete what is older than the given days, or only count it; return each kind with its days and its number.

    `history_days` is also the time for which removed rows of snapshots are kept. Clusters of which the target has rows
    take part, whether the settings still name them or not.
    """
    removed_days = history_days or REMOVED_DAYS
    logs, history, removed, daily = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for cluster in cluster_names(postgres):
        logs.update(purge_logs(postgres, cluster, log_days, dry_run=dry_run))
        history.update(purge_history(postgres, cluster, specs, history_days, dry_run=dry_run))
        removed.update(purge_removed(postgres, cluster, specs, removed_days, dry_run=dry_run))
        daily.update(purge_daily(postgres, cluster, specs, daily_days, dry_run=dry_run))
        daily.update(purge_health(postgres, cluster, daily_days, dry_run=dry_run))
    counts = [(log_days, logs), (history_days or 0, history), (removed_days, removed), (daily_days or 0, daily)]
    return [(kind, days, number) for days, numbers in counts for kind, number in numbers.items()]
