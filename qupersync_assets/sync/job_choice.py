"""Returns the sync jobs that are on in each cluster, and how often they run.

By SYNC_JOBS and REDSHIFT_<NAME>_SYNC_JOBS, SYNC_INTERVAL, REDSHIFT_<NAME>_SYNC_INTERVAL and SYNC_JOB_INTERVALS.
"""

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from qupersync_assets.settings import Settings, SettingsError
from qupersync_assets.settings.errors import explain
from qupersync_assets.settings.redshift import FIELDS
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync_jobs import all_specs

DEFAULT = "default"


def jobs_by_cluster(settings: Settings) -> dict[str, tuple[SyncSpec, ...]]:
    """Return the jobs that are on in each cluster, or raise SettingsError about all unknown names."""
    known = [DEFAULT, *(spec.sync_job_id for spec in all_specs())]
    chosen: dict[str, tuple[SyncSpec, ...]] = {}
    lines: list[str] = []
    for cluster, source in settings.by_cluster().items():
        names = (source.sync_jobs or settings.sync_jobs).split(",")
        specs = [s for s in all_specs() if s.sync_job_id in names or (DEFAULT in names and not s.optional)]
        chosen[cluster] = tuple(specs)
        for name in (name for name in names if name not in known):
            variable = f"{source.prefix}_SYNC_JOBS" if source.sync_jobs else "SYNC_JOBS"
            lines.append(_unknown(name, variable, ",".join(names), known))
    for name in (name for name in settings.job_intervals() if name not in known[1:]):
        lines.append(_unknown(name, "SYNC_JOB_INTERVALS", str(settings.sync_job_intervals), known[1:]))
    if lines:
        raise SettingsError(list(dict.fromkeys(lines)))
    return chosen


def jobs_on(settings: Settings, clusters: Collection[str] = ()) -> tuple[SyncSpec, ...]:
    """Return the jobs that are on in at least one of the clusters, by default of all clusters."""
    chosen = jobs_by_cluster(settings)
    on = {spec.sync_job_id for cluster in clusters or chosen for spec in chosen[cluster]}
    return tuple(spec for spec in all_specs() if spec.sync_job_id in on)


def cluster_interval(settings: Settings, cluster: str) -> int:
    """Return the seconds between two syncs of a cluster: the shortest interval of its jobs that are on."""
    return min(settings.interval(cluster, spec.sync_job_id) for spec in jobs_by_cluster(settings)[cluster])


def why_off(spec: SyncSpec, cluster: str) -> str:
    """Return why a job reads nothing in a cluster where it is off."""
    return f"{spec.sync_job_id} is off in cluster {cluster}: SYNC_JOBS of this cluster does not name it."


def _unknown(name: str, variable: str, value: str, known: Sequence[str]) -> str:
    similar = get_close_matches(name, known, 1)
    hint = f"; did you mean {similar[0]}?" if similar else "."
    allowed = ", ".join(known)
    text = f"there is no sync job {name!r}{hint} Allowed are {allowed}"
    field = Settings.model_fields.get(variable.lower(), FIELDS["sync_jobs"])
    return explain({"type": "unknown_job", "msg": text, "input": value}, variable, field)
