"""What the settings say about health."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta

from qupersync_assets.health import all_signals

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
        price_per_hour: price of one hour of the cluster.
    """

    jobs_on: Collection[str]
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    large_rows: int = LARGE_ROWS
    fresh_within: timedelta = timedelta(hours=1)
    price_per_hour: float | None = None

    def threshold(self, signal_id: str) -> float | None:
        """Return the threshold of a signal."""
        return self.thresholds.get(signal_id, all_signals()[signal_id].threshold)

    def is_off(self, signal_id: str) -> bool:
        """Return whether a signal is switched off."""
        return signal_id in self.thresholds and self.thresholds[signal_id] is OFF

    @property
    def md5(self) -> str:
        """Identifies the options and the signals; another value makes an evaluation necessary."""
        said = {name: str(value) for name, value in asdict(self).items()} | {"jobs_on": str(sorted(self.jobs_on))}
        text = f"{sorted(said.items())} {list(all_signals().values())}"
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
