"""How the health of each cluster is evaluated, from the settings."""

from qupersync_assets.health.options import HealthOptions, health_options
from qupersync_assets.settings import Settings
from qupersync_assets.sync.job_choice import jobs_by_cluster


def options_by_cluster(settings: Settings) -> dict[str, HealthOptions]:
    """Return how each cluster is evaluated.

    Raises:
        SettingsError: SYNC_JOBS or HEALTH_THRESHOLDS names something that does not exist.
    """
    on = {cluster: [spec.sync_job_id for spec in specs] for cluster, specs in jobs_by_cluster(settings).items()}
    return health_options(settings, on)
