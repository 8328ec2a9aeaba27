"""Prometheus metrics, computed from quper.sync_logs at each scrape.

All are gauges. Old runs are deleted from quper.sync_logs, and a retry replaces the counts of a run: sums can
decrease, which Prometheus would interpret as the reset of a counter
(https://prometheus.io/docs/concepts/metric_types/).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from qupersync_assets.core.errors import SyncError
from qupersync_assets.postgres.job_status import KINDS, JobState, job_states
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.sync_status import ENDED
from qupersync_assets.spec import SyncSpec

# Not `job`: Prometheus adds that label to every target.
LABELS = ("cluster", "sync_job")

# Name after qupersync_ -> help and value; a value None is omitted.
_VALUES: dict[str, tuple[str, Callable[[JobState], float | None]]] = {
    "running": ("1 while a run loads the job.", lambda state: float(state.running is not None)),
    "last_run_duration_seconds": (
        "Duration of the last run that ended.",
        lambda state: state.last["duration_ms"] / 1000 if state.last else None,
    ),
    "last_run_timestamp_seconds": (
        "End of the last run that ended; 0 if there is none.",
        lambda state: state.last["completed_at"].timestamp() if state.last else 0.0,
    ),
    "last_success_timestamp_seconds": (
        "End of the last success; 0 if there is none.",
        lambda state: state.last_success_at.timestamp() if state.last_success_at else 0.0,
    ),
    "failed_runs_since_success": ("Failed runs since the last success.", lambda state: float(state.failures)),
    "lag_seconds": (
        "Age of the newest row of a history table; time since the last read of a snapshot table.",
        lambda state: state.lag,
    ),
}

# Name after qupersync_ -> help, third label, and values by that label.
_LABELED_VALUES: dict[str, tuple[str, str, Callable[[JobState], dict[str, float]]]] = {
    "last_run_status": (
        "1 for the status of the last run that ended, 0 for the others.",
        "status",
        lambda state: {s: float(state.last is not None and state.last["status"] == s) for s in ENDED},
    ),
    "last_run_rows": (
        "Rows of the last run that ended, by kind.",
        "kind",
        lambda state: {kind: float(state.last[name]) for kind, name in KINDS.items()} if state.last else {},
    ),
    "runs_today": (
        "Runs that ended since midnight UTC, by status.",
        "status",
        lambda state: {status: float(state.today.get(status, 0)) for status in ENDED},
    ),
    "rows_today": (
        "Rows of the runs that ended since midnight UTC, by kind.",
        "kind",
        lambda state: {kind: float(state.rows_today.get(kind, 0)) for kind in KINDS},
    ),
}


class SyncCollector(Collector):
    """The metrics of the jobs of each cluster; only qupersync_up while PostgreSQL does not answer."""

    def __init__(
        self, postgres: PostgresResource, jobs: Mapping[str, Sequence[SyncSpec]], interval: Callable[[str, str], int]
    ) -> None:
        self._postgres = postgres
        self._jobs = jobs
        self._interval = interval  # seconds between two syncs of a job, by cluster and sync_job_id

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering the collector computes no metric."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Compute the current metrics."""
        try:
            states = job_states(self._postgres, self._jobs)
        except (SyncError, sa.exc.SQLAlchemyError):
            states = []
        # Each job has a state, whether it ran or not.
        yield GaugeMetricFamily("qupersync_up", "1 if PostgreSQL answers.", value=float(bool(states)))
        if not states:
            return
        for name, (text, value) in _VALUES.items():
            family = GaugeMetricFamily(f"qupersync_{name}", text, labels=LABELS)
            for state in states:
                if (number := value(state)) is not None:
                    family.add_metric([state.cluster, state.sync_job_id], number)
            yield family
        family = GaugeMetricFamily("qupersync_interval_seconds", "Seconds between two syncs of the job.", labels=LABELS)
        for state in states:
            family.add_metric([state.cluster, state.sync_job_id], self._interval(state.cluster, state.sync_job_id))
        yield family
        for name, (text, label, values) in _LABELED_VALUES.items():
            family = GaugeMetricFamily(f"qupersync_{name}", text, labels=[*LABELS, label])
            for state in states:
                for label_value, number in values(state).items():
                    family.add_metric([state.cluster, state.sync_job_id, label_value], number)
            yield family
