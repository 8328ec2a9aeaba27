"""Prometheus metrics, computed from quper.sync_logs at each scrape.

All are gauges. quper.sync_logs forgets old runs, and a run that is tried again counts anew: sums over it can
go down, which Prometheus would take for the restart of a counter
(https://prometheus.io/docs/concepts/metric_types/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from qupersync_assets.core.errors import SyncError
from qupersync_assets.postgres.job_status import KINDS, STATUSES, JobState, job_states
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.spec import SyncSpec

# Not `job`, which Prometheus gives to every target.
LABELS = ("cluster", "sync_job")
_Values = Callable[[JobState], dict[str, float | None]]


def _one(value: Callable[[JobState], float | None]) -> _Values:
    return lambda state: {"": value(state)}


def _seconds(state: JobState) -> float | None:
    return state.last["duration_ms"] / 1000 if state.last else None


# Name after qupersync_, help, third label if there is one, and the values by that label; None is left out.
_FAMILIES: list[tuple[str, str, str, _Values]] = [
    (
        "running",
        "1 while a run loads the job.",
        "",
        _one(lambda state: float(state.running is not None)),
    ),
    (
        "last_run_status",
        "1 for the status of the last run that ended, 0 for the others.",
        "status",
        lambda state: {s: float(state.last is not None and state.last["status"] == s) for s in STATUSES},
    ),
    ("last_run_duration_seconds", "How long the last run took that ended.", "", _one(_seconds)),
    (
        "last_run_timestamp_seconds",
        "When the last run ended; 0 if there was none.",
        "",
        _one(lambda state: state.last["completed_at"].timestamp() if state.last else 0.0),
    ),
    (
        "last_run_rows",
        "Rows of the last run that ended, by what became of them.",
        "kind",
        lambda state: {kind: float(state.last[name]) for kind, name in KINDS.items()} if state.last else {},
    ),
    (
        "last_success_timestamp_seconds",
        "When the last success ended; 0 if there was none.",
        "",
        _one(lambda state: state.last_success_at.timestamp() if state.last_success_at else 0.0),
    ),
    (
        "failed_runs_since_success",
        "Failed runs since the last success.",
        "",
        _one(lambda state: float(state.failures)),
    ),
    (
        "lag_seconds",
        "Age of the newest row of a history; of a snapshot, time since it was read.",
        "",
        _one(lambda state: state.lag),
    ),
    (
        "runs_today",
        "Runs that have ended since midnight UTC, by status.",
        "status",
        lambda state: {status: float(state.today.get(status, 0)) for status in STATUSES},
    ),
    (
        "rows_today",
        "Rows of the runs that have ended since midnight UTC, by what became of them.",
        "kind",
        lambda state: {kind: float(state.rows_today.get(kind, 0)) for kind in KINDS},
    ),
]


class SyncCollector(Collector):
    """The metrics of all jobs of all clusters; while PostgreSQL does not answer, only that it does not."""

    def __init__(
        self, postgres: PostgresResource, clusters: Sequence[str], specs: Sequence[SyncSpec]
    ) -> None:
        self._postgres = postgres
        self._clusters = clusters
        self._specs = specs

    def describe(self) -> Iterable[Metric]:
        """No metric is computed when the collector is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        states: list[JobState] | None
        try:
            states = job_states(self._postgres, self._clusters, self._specs)
        except (SyncError, sa.exc.SQLAlchemyError):
            states = None
        up = "1 if PostgreSQL could be asked for all else."
        yield GaugeMetricFamily("qupersync_up", up, value=float(states is not None))
        for name, text, label, values in _FAMILIES if states is not None else ():
            labels = [*LABELS, label] if label else LABELS
            family = GaugeMetricFamily(f"qupersync_{name}", text, labels=labels)
            for state in states or ():
                for of, value in values(state).items():
                    if value is not None:
                        own = [state.cluster, state.sync_job_id]
                        family.add_metric([*own, of] if label else own, value)
            yield family
