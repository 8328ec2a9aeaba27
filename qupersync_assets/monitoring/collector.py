"""Prometheus metrics, computed at each scrape from quper.sync_logs and quper.sync_totals, with one statement.

Counters come from quper.sync_totals, which only grows: old rows of quper.sync_logs are deleted
(https://prometheus.io/docs/concepts/metric_types/).
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.monitoring.dagster_state import DagsterReader
from qupersync_assets.postgres.job_status import KINDS, JobState, job_states
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import versions
from qupersync_assets.postgres.sync_status import ENDED, SyncStatus
from qupersync_assets.postgres.sync_totals import BUCKETS, bucket_column
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.checks import latest_checks
from qupersync_assets.sync.dagster_state import DagsterState
from qupersync_assets.sync_jobs import spec_of

# Not `job`: Prometheus adds that label to every target.
LABELS = ("cluster", "sync_job")
# The value of qupersync_check_status; a check without a result has none.
CHECK_VALUES = {"passed": 0, "warning": 1, "error": 2}
# Runs whose duration is that of a load.
_LOADED = (SyncStatus.SUCCESS, SyncStatus.PARTIAL)
_log = logging.getLogger(__name__)

# Name after qupersync_ -> help and value; a value None is omitted.
_VALUES: dict[str, tuple[str, Callable[[JobState], float | None]]] = {
    "running": ("1 while a run loads the job.", lambda state: float(state.running is not None)),
    "last_run_duration_seconds": (
        "Duration of the last run that ended, in seconds.",
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

# Name after qupersync_ -> family, help, third label, and values by that label.
_Family = type[GaugeMetricFamily] | type[CounterMetricFamily]
_LABELED_VALUES: dict[str, tuple[_Family, str, str, Callable[[JobState], dict[str, float]]]] = {
    "last_run_status": (
        GaugeMetricFamily,
        "1 for the status of the last run that ended, 0 for the others.",
        "status",
        lambda state: {s: float(state.last is not None and state.last["status"] == s) for s in ENDED},
    ),
    "last_run_rows": (
        GaugeMetricFamily,
        "Rows of the last run that ended, by kind.",
        "kind",
        lambda state: {kind: float(state.last[name]) for kind, name in KINDS.items()} if state.last else {},
    ),
    "runs": (
        CounterMetricFamily,
        "Runs that ended, by status.",
        "status",
        lambda state: {status: _total(state, "runs", [status]) for status in ENDED},
    ),
    "check_status": (
        GaugeMetricFamily,
        "The latest result of a check: 0 passed, 1 warning, 2 error.",
        "check",
        lambda state: _checks(state),
    ),
    "rows": (
        CounterMetricFamily,
        "Rows of the runs that ended, by kind.",
        "kind",
        lambda state: {kind: _total(state, name, ENDED) for kind, name in KINDS.items()},
    ),
}


def _total(state: JobState, column: str, statuses: Sequence[str]) -> float:
    return float(sum(state.totals[status][column] for status in statuses if status in state.totals))


def _checks(state: JobState) -> dict[str, float]:
    results = latest_checks(state, spec_of(state.sync_job_id))
    return {name: CHECK_VALUES[check["status"]] for name, check in results.items() if check["status"] in CHECK_VALUES}


class SyncCollector(Collector):
    """The metrics of the jobs of each cluster; only qupersync_up and the build while PostgreSQL does not answer."""

    def __init__(
        self,
        postgres: PostgresResource,
        jobs: Mapping[str, Sequence[SyncSpec]],
        interval: Callable[[str, str], int],
        dagster: DagsterReader,
    ) -> None:
        self._postgres = postgres
        self._jobs = jobs
        self._interval = interval  # seconds between two syncs of a job, by cluster and sync_job_id
        self._dagster = dagster
        self._problem: str | None = None  # why PostgreSQL did not answer the last scrape

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering the collector computes no metric."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Compute the current metrics."""
        states = self._states()
        # Each job has a state, whether it ran or not.
        yield GaugeMetricFamily("qupersync_up", "1 if PostgreSQL answers.", value=float(bool(states)))
        build = GaugeMetricFamily(
            "qupersync_build_info", "1, with the versions as labels.", labels=("version", "dagster", "schema")
        )
        build.add_metric([version("qupersync"), version("dagster"), versions()[-1]], 1.0)
        yield build
        if not states:
            return
        yield from _of_jobs(states)
        text = "Seconds between two syncs of the job."
        intervals = GaugeMetricFamily("qupersync_interval_seconds", text, labels=LABELS)
        for state in states:
            seconds = self._interval(state.cluster, state.sync_job_id)
            intervals.add_metric([state.cluster, state.sync_job_id], seconds)
        yield intervals
        if (dagster := self._dagster.read()) is not None:
            yield from _of_dagster(dagster)

    def _states(self) -> list[JobState]:
        """Return the states; none if PostgreSQL does not answer. A new reason is logged, and the end of the outage."""
        try:
            states = job_states(self._postgres, self._jobs)
        except (SyncError, sa.exc.SQLAlchemyError) as error:
            problem = redact(str(error))
            if problem != self._problem:
                _log.warning("qupersync_up is 0: %s", problem)
            self._problem = problem
            return []
        if self._problem is not None:
            _log.warning("qupersync_up is 1 again.")
        self._problem = None
        return states


def _of_jobs(states: Sequence[JobState]) -> Iterator[Metric]:
    for name, (text, value) in _VALUES.items():
        family = GaugeMetricFamily(f"qupersync_{name}", text, labels=LABELS)
        for state in states:
            if (number := value(state)) is not None:
                family.add_metric([state.cluster, state.sync_job_id], number)
        yield family
    for name, (kind, text, label, values) in _LABELED_VALUES.items():
        labeled = kind(f"qupersync_{name}", text, labels=[*LABELS, label])
        for state in states:
            for label_value, number in values(state).items():
                labeled.add_metric([state.cluster, state.sync_job_id, label_value], number)
        yield labeled
    text = "Durations of the runs that loaded the job, in seconds."
    durations = HistogramMetricFamily("qupersync_run_duration_seconds", text, labels=LABELS)
    for state in states:
        counts = {str(seconds): _total(state, bucket_column(seconds), _LOADED) for seconds in BUCKETS}
        counts["+Inf"] = _total(state, "runs", _LOADED)
        seconds = _total(state, "duration_ms", _LOADED) / 1000
        durations.add_metric([state.cluster, state.sync_job_id], list(counts.items()), seconds)
    yield durations


def _of_dagster(dagster: DagsterState) -> Iterator[Metric]:
    on = float(dagster.schedule_on)
    yield GaugeMetricFamily("qupersync_schedule_on", "1 if the schedule of the syncs is switched on.", value=on)
    if dagster.heartbeat.age is not None:
        text = "Seconds since the last heartbeat of the daemon; of several threads, the oldest."
        yield GaugeMetricFamily("qupersync_daemon_heartbeat_age_seconds", text, value=dagster.heartbeat.age)
