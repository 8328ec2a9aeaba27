"""Loads one sync job: from its source into its target table, with its row in quper.sync_logs."""

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

import sqlalchemy as sa

from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.postgres import skipped_rows, sync_logs
from qupersync_assets.postgres.advisory_lock import JobConnection, JobLocked
from qupersync_assets.postgres.batch_writer import BatchWriter
from qupersync_assets.postgres.daily_history import write_day
from qupersync_assets.postgres.resource import PostgresResource, postgres_errors
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.postgres.watermark import find_lag, plan_window
from qupersync_assets.rows.row_counts import RowCounts, SkippedRow
from qupersync_assets.rows.source_read import SourceRead, SourceUnavailable, SyncSource
from qupersync_assets.spec import SyncSpec

MAX_SAMPLES = 5
MAX_LAST_RUNS = 10
Gap = tuple[datetime, datetime]


@dataclass(frozen=True)
class LoadResult:
    """What a load did."""

    status: SyncStatus  # SUCCESS, UNAVAILABLE (the cluster has no source) or SKIPPED (another run loads the job)
    reason: str = ""  # why the job is unavailable or was skipped
    read: SourceRead | None = None  # the source, None if nothing was read; its pages are used up
    counts: RowCounts = field(default_factory=RowCounts)  # of all batches
    samples: tuple[SkippedRow, ...] = ()  # the first skipped rows
    gap: Gap | None = None  # start and end of the time whose rows are lost
    seconds: float = 0.0  # duration of the load
    is_off: bool = False  # SYNC_JOBS of the cluster does not name the job, which is therefore unavailable

    @property
    def source_name(self) -> str:
        """The views that were read; the status if nothing was read."""
        return self.read.name if self.read else str(self.status)

    @property
    def gap_seconds(self) -> int:
        """Length of the gap; 0 if there is none."""
        return round((self.gap[1] - self.gap[0]).total_seconds()) if self.gap else 0


@dataclass(frozen=True)
class TableState:
    """A target table after a load."""

    row_count: int  # rows of the cluster, estimated above 100,000
    lag_seconds: int  # age of a history's newest row; for a snapshot, time since its last read
    last_runs: Sequence[sa.RowMapping]  # the newest rows of the job in quper.sync_logs, newest first


def load(
    postgres: PostgresResource,
    spec: SyncSpec,
    cluster: str,
    run_id: str,
    source: SyncSource,
    log: logging.Logger,
    lookback: timedelta,
    full_refresh: bool = False,
    day: date | None = None,
) -> LoadResult:
    """Load one sync job of one cluster; each batch is one transaction. `log` gets skipped rows and reasons.

    An incremental load reads again from `lookback` before the watermark, because Redshift logs late;
    `full_refresh` reads everything that Redshift holds, whatever the target has. `day` is the day of the daily
    history, that of PostgreSQL's clock (UTC) by default.

    Raises:
        SyncError: the load failed. Committed batches stay. The row in quper.sync_logs is closed; the next
            load closes it if PostgreSQL cannot be reached.
    """
    ensure_schema(postgres, [spec])
    with closing(JobConnection(postgres.engine(), cluster, spec.sync_job_id)) as target:
        started = time.monotonic()
        return _Load(postgres, target, spec, cluster, run_id, log, lookback, full_refresh, day, started).run(source)


def table_state(postgres: PostgresResource, spec: SyncSpec, cluster: str) -> TableState:
    """Return the state of a cluster's rows in a target table.

    Raises:
        SyncError: PostgreSQL cannot be reached.
    """
    with postgres.transaction() as connection:
        lag = find_lag(connection, spec, cluster)
        last_runs = sync_logs.last_runs(connection, cluster, spec.sync_job_id, MAX_LAST_RUNS)
    return TableState(postgres.count_rows(spec.table, cluster), lag, last_runs)


@dataclass(frozen=True)
class _Load:
    """The arguments of `load`, and the connection that holds the lock."""

    postgres: PostgresResource
    target: JobConnection
    spec: SyncSpec
    cluster: str
    run_id: str
    log: logging.Logger
    lookback: timedelta
    full_refresh: bool
    day: date | None
    started: float

    def run(self, source: SyncSource) -> LoadResult:
        table, job = self.spec.table.fullname, self.spec.sync_job_id
        try:
            with postgres_errors(f"Starting to load {table} failed"), self.target.begin() as connection:
                log_id = sync_logs.start(connection, self.cluster, job, self.run_id)
                sync_logs.close_stale_rows(connection, self.cluster, job, self.run_id)
        except JobLocked as locked:
            with self.postgres.transaction() as connection:
                log_id = sync_logs.start(connection, self.cluster, job, self.run_id)
            return self._without_read(log_id, SyncStatus.SKIPPED, str(locked))
        return self._read_and_write(source, log_id)

    def _read_and_write(self, source: SyncSource, log_id: int) -> LoadResult:
        """Load the pages, and close the log row however the load ends."""
        spec, table = self.spec, self.spec.table.fullname
        read: SourceRead | None = None
        try:
            with postgres_errors(f"Planning the load of {table} failed"), self.target.begin() as connection:
                window = plan_window(connection, spec, self.cluster, self.lookback, self.full_refresh)
                is_history = spec.kind == "history"
                gap = sync_logs.find_gap(connection, self.cluster, spec.sync_job_id) if is_history else None
            with postgres_errors(f"Writing {table} failed"), source.open(window) as read:
                writer, samples = self._write_pages(read, log_id)
            with postgres_errors(f"Finishing {table} failed"), self.target.begin() as connection:
                counts = writer.mark_removed(connection)
                if spec.after_load is not None:
                    connection.execute(spec.after_load, {"cluster": self.cluster})
                if counts.upserted:
                    write_day(connection, spec, self.cluster, writer.is_complete, self.day)
                sync_logs.finish_success(connection, log_id, read, counts, gap)
        except SourceUnavailable as unavailable:
            result = self._without_read(log_id, SyncStatus.UNAVAILABLE, str(unavailable))
            return replace(result, is_off=unavailable.is_chosen)
        except BaseException as error:
            self._close_after(error, log_id, read)
            raise
        seconds = time.monotonic() - self.started
        return LoadResult(SyncStatus.SUCCESS, "", read, counts, tuple(samples), gap, seconds)

    def _write_pages(self, read: SourceRead, log_id: int) -> tuple[BatchWriter, list[SkippedRow]]:
        def finish(connection: sa.Connection, counts: RowCounts, skipped: list[SkippedRow]) -> None:
            skipped_rows.record(connection, self.spec, self.cluster, self.run_id, skipped)
            sync_logs.update_counts(connection, log_id, counts)

        writer = BatchWriter(self.target, self.spec, finish)
        samples: list[SkippedRow] = []
        for page in read.pages:
            for skipped in writer.write(page)[: MAX_SAMPLES - len(samples)]:
                samples.append(skipped)
                self.log.warning(f"Skipped a row: {skipped.column}: {skipped.reason}")
        return writer, samples

    def _without_read(self, log_id: int, status: SyncStatus, reason: str) -> LoadResult:
        self.log.info(f"{status.capitalize()}: {reason}")
        with self.postgres.transaction() as connection:
            sync_logs.finish(connection, log_id, status, error=reason)
        return LoadResult(status, reason, seconds=time.monotonic() - self.started)

    def _close_after(self, error: BaseException, log_id: int, read: SourceRead | None) -> None:
        """Close the log row of a load that failed or was terminated."""
        # Dagster terminates a step with a BaseException that is no Exception, as Ctrl-C does.
        terminated = not isinstance(error, Exception)
        status = SyncStatus.CANCELED if terminated else SyncStatus.FAILED
        text = "terminated" if terminated else redact(f"{type(error).__name__}: {error}")
        try:
            with self.postgres.transaction() as connection:
                sync_logs.finish(connection, log_id, status, source=read.name if read else None, error=text)
        except SyncError as unreachable:
            self.log.warning(f"quper.sync_logs could not be closed: {redact(str(unreachable))}")
