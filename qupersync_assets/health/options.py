"""The settings of the health of one cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from difflib import get_close_matches

from qupersync_assets.health import all_signals
from qupersync_assets.settings import Settings, SettingsError
from qupersync_assets.settings.errors import explain
from qupersync_assets.settings.health import parse_thresholds

OFF = None
LARGE_ROWS = 5_000_000


@dataclass(frozen=True)
class HealthOptions:
    """How one cluster is evaluated.

    Attributes:
        jobs_on: the sync jobs that are on in the cluster; the others provide no data.
        thresholds: thresholds by signal, for those that differ from the signal's own; OFF: it is not evaluated.
        large_rows: rows above which a table is large.
        fresh_within: age up to which the last sync of a job is fresh.
        intervals: seconds between two syncs of each job that is on; three of them are fresh, too.
        price_per_hour: price of one hour of the cluster.
    """

    jobs_on: Collection[str]
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    large_rows: int = LARGE_ROWS
    fresh_within: timedelta = timedelta(hours=1)
    intervals: Mapping[str, int] = field(default_factory=dict)
    price_per_hour: float | None = None

    def threshold(self, signal_id: str) -> float | None:
        """Return the threshold of a signal."""
        return self.thresholds.get(signal_id, all_signals()[signal_id].threshold)

    def is_off(self, signal_id: str) -> bool:
        """Return whether a signal is switched off."""
        return signal_id in self.thresholds and self.thresholds[signal_id] is OFF

    def fresh_for(self, sync_job_id: str) -> timedelta:
        """Return the age up to which the last sync of a job is fresh: a sync may be late, and take its time."""
        return max(self.fresh_within, timedelta(seconds=3 * self.intervals.get(sync_job_id, 0)))

    @property
    def md5(self) -> str:
        """Identifies the options and the signals; another value makes an evaluation necessary."""
        said = {name: str(value) for name, value in asdict(self).items()} | {"jobs_on": str(sorted(self.jobs_on))}
        text = f"{sorted(said.items())} {list(all_signals().values())}"
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def health_options(settings: Settings, jobs_on: Mapping[str, Collection[str]]) -> dict[str, HealthOptions]:
    """Return the options of each cluster; `jobs_on` has the sync_job_ids that are on in each.

    Raises:
        SettingsError: HEALTH_THRESHOLDS names a signal that does not exist, or that has no threshold.
    """
    thresholds = parse_thresholds(settings.health_thresholds)
    known = all_signals()
    lines = [_unknown(name, settings.health_thresholds) for name in thresholds.keys() - known.keys()]
    lines += [
        _line(f"{name} has no threshold; allowed is {name}=off", settings.health_thresholds)
        for name, value in thresholds.items()
        if name in known and value is not OFF and known[name].threshold is None
    ]
    if lines:
        raise SettingsError(sorted(lines))
    return {
        cluster: HealthOptions(
            jobs_on=jobs_on[cluster],
            thresholds=thresholds,
            large_rows=settings.health_large_table_rows,
            intervals={job: settings.interval(cluster, job) for job in jobs_on[cluster]},
            price_per_hour=source.price_per_hour,
        )
        for cluster, source in settings.by_cluster().items()
    }


def _unknown(name: str, value: str) -> str:
    similar = get_close_matches(name, all_signals(), 1)
    hint = f"; did you mean {similar[0]}?" if similar else ": docs/health.md lists them"
    return _line(f"there is no signal {name!r}{hint}", value)


def _line(text: str, value: str) -> str:
    field = Settings.model_fields["health_thresholds"]
    return explain({"type": "signal", "msg": text, "input": value}, "HEALTH_THRESHOLDS", field)
