"""Loads one sync job: from its source into its target table, with its row in quper.sync_logs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.core.retries import Attempt
from qupersync_assets.postgres import skipped_rows, sync_logs
from qupersync_assets.postgres.advisory_lock import JobConnection, JobLocked
from qupersync_assets.postgres.batch_writer import BatchWriter
from qupersync_assets.postgres.daily_history import write_day
from qupersync_assets.postgres.merge import read_keys_table, removal_statement, undecided_statement
from qupersync_assets.postgres.mutable_rows import mark_unlisted
from qupersync_assets.postgres.resource import PostgresResource, count_rows, postgres_errors
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.postgres.sync_logs import Gap
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.postgres.watermark import find_gap, find_lag, newest, oldest_time, plan_window, remaining_gap
from qupersync_assets.rows.row_counts import RowCounts, SkippedRow
from qupersync_assets.rows.source_read import (
    PartedSource,
    PartFailure,
    SourceParts,
    SourceRead,
    SourceUnavailable,
    SyncSource,
)
from qupersync_assets.spec import ReadMode, SyncSpec, Window

MAX_SAMPLES = 5
MAX_LAST_RUNS = 10
ONLY_ATTEMPT = Attempt()


@dataclass(frozen=True)
class LoadResult:
    """What a load did."""

    status: SyncStatus  # SUCCESS, PARTIAL (`failures`), UNAVAILABLE (no source) or SKIPPED (another run loads the job)
    reason: str = ""  # why the job is unavailable or was skipped
    read: SourceRead | None = None  # the source, or its first part; None if nothing was read; its pages are used up
    counts: RowCounts = field(default_factory=RowCounts)  # of all batches
    samples: tuple[SkippedRow, ...] = ()  # the first skipped rows
    gap: Gap | None = None  # start and end of the time whose rows are lost
    seconds: float = 0.0  # duration of the load
    databases: tuple[str, ...] = ()  # those that were loaded, if the source shows one at a time
    failures: tuple[PartFailure, ...] = ()  # the others: nothing of them was marked as removed
    slow_path: str = ""  # why the rows were not written in the fastest way
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
    source: SyncSource | PartedSource,
    log: logging.Logger,
    lookback: timedelta,
    full_refresh: bool = False,
    day: date | None = None,
    attempt: Attempt = ONLY_ATTEMPT,
) -> LoadResult:
    """Load one sync job of one cluster; each batch is one transaction. `log` gets skipped rows and reasons.

    An incremental load reads again from `lookback` before the watermark, because Redshift logs late;
    `full_refresh` reads everything that Redshift holds, whatever the target has. A part of the source that cannot
    be read is one of the `failures` of the result. `day` is the day of the daily history, that of PostgreSQL's clock
    (UTC) by default.

    Raises:
        SyncError: the load failed, or no part of the source could be read. Committed batches stay. The row in
            quper.sync_logs is closed, or stays running after a transient error that is not of the last `attempt`;
            the next load closes it if PostgreSQL cannot be reached.
    """
    ensure_schema(postgres, [spec])
    with closing(JobConnection(postgres.engine(), cluster, spec.sync_job_id)) as target:
        started = time.monotonic()
        options = (lookback, full_refresh, day, attempt, started)
        return _Load(postgres, target, spec, cluster, run_id, log, *options).run(source)


def table_state(connection: sa.Connection, spec: SyncSpec, cluster: str) -> TableState:
    """Return the state of a cluster's rows in a target table."""
    lag = find_lag(connection, spec, cluster)
    last_runs = sync_logs.last_runs(connection, cluster, spec.sync_job_id, MAX_LAST_RUNS)
    return TableState(count_rows(connection, spec.table, cluster), lag, last_runs)


class _Part(NamedTuple):
    """A part of the source that was read to its end."""

    read: SourceRead
    writer: BatchWriter


@dataclass
class _Loaded:
    """What was loaded so far."""

    names: list[str] = field(default_factory=list)  # the views of each part that was opened
    writers: list[BatchWriter] = field(default_factory=list)
    parts: list[_Part] = field(default_factory=list)
    failures: list[PartFailure] = field(default_factory=list)
    samples: list[SkippedRow] = field(default_factory=list)
    gap: Gap | None = None  # of a history, unless `oldest_row_at` closes it
    oldest_row_at: datetime | None = None  # the oldest row that was read, if there may be a gap
    unlisted: frozenset[int] = frozenset()  # keys of unfinished rows that the source no longer has

    def counts(self) -> RowCounts:
        """Return the counts of all committed batches."""
        return sum((writer.counts for writer in self.writers), RowCounts())


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
    attempt: Attempt
    started: float

    def run(self, source: SyncSource | PartedSource) -> LoadResult:
        table, job = self.spec.table.fullname, self.spec.sync_job_id
        try:
            with postgres_errors(f"Starting to load {table} failed"), self.target.begin(durable=True) as connection:
                log_id = sync_logs.start(connection, self.cluster, job, self.run_id)
                sync_logs.close_stale_rows(connection, self.cluster, job, self.run_id)
        except JobLocked as locked:
            with self.postgres.transaction() as connection:
                log_id = sync_logs.start(connection, self.cluster, job, self.run_id)
            return self._without_read(log_id, SyncStatus.SKIPPED, str(locked))
        return self._read_and_write(source, log_id)

    def _read_and_write(self, source: SyncSource | PartedSource, log_id: int) -> LoadResult:
        """Load the parts of the source, and close the log row however the load ends."""
        spec, table = self.spec, self.spec.table.fullname
        loaded = _Loaded()
        try:
            with postgres_errors(f"Planning the load of {table} failed"), self.target.begin() as connection:
                window = plan_window(connection, spec, self.cluster, self.lookback, self.full_refresh)
                sync_logs.record_window(connection, log_id, window)
                loaded.gap = find_gap(connection, spec, self.cluster)
            parts = source.parts() if isinstance(source, PartedSource) else SourceParts({"": source})
            with postgres_errors(f"Writing {table} failed"):
                self._load_parts(parts, window, log_id, loaded)
            gap = remaining_gap(loaded.gap, loaded.oldest_row_at)
            with postgres_errors(f"Finishing {table} failed"), self.target.begin(durable=True) as connection:
                counts = loaded.counts() + self._mark_removed(connection, loaded, parts.existing)
                if spec.mutable_where is not None:
                    mark_unlisted(connection, spec, self.cluster, window.mutable_keys, loaded.unlisted)
                if spec.after_load is not None:
                    connection.execute(spec.after_load, self._written(connection, window))
                if counts.upserted:
                    is_complete = not loaded.failures and all(part.writer.is_complete for part in loaded.parts)
                    write_day(connection, spec, self.cluster, is_complete, self.day)
                read, failures = loaded.parts[0].read, tuple(loaded.failures)
                newest_row_at = newest(spec, self.cluster).scalar_subquery() if spec.time_column else None
                sync_logs.finish_success(connection, log_id, read, counts, gap, newest_row_at, failures)
        except SourceUnavailable as unavailable:
            result = self._without_read(log_id, SyncStatus.UNAVAILABLE, str(unavailable))
            return replace(result, is_off=unavailable.is_chosen)
        except BaseException as error:
            self._close_after(error, log_id, loaded)
            raise
        return LoadResult(
            SyncStatus.PARTIAL if failures else SyncStatus.SUCCESS,
            read=read,
            counts=counts,
            samples=tuple(loaded.samples),
            gap=gap,
            seconds=time.monotonic() - self.started,
            databases=tuple(part.read.database for part in loaded.parts if part.read.database),
            failures=failures,
            slow_path=next((part.writer.slow_path for part in loaded.parts if part.writer.slow_path), ""),
        )

    def _load_parts(self, parts: SourceParts, window: Window, log_id: int, loaded: _Loaded) -> None:
        """Load one part after the other; raise an error if none could be read."""
        loaded.failures += parts.failures
        is_only = len(parts.sources) == 1 and not parts.failures
        errors: list[SyncError | SourceUnavailable] = []
        for name, part in parts.sources.items():
            try:
                self._load_part(part, window, log_id, loaded, parts.existing is not None)
            except (SyncError, SourceUnavailable) as error:  # of the source: those of the target are of a driver
                if is_only:
                    raise
                errors.append(error)
                loaded.failures.append(PartFailure(name, redact(str(error))))
        for failure in loaded.failures:
            self.log.warning(f"Database {failure.name}: {failure.reason}")
        if not loaded.parts:
            if errors and not parts.failures and all(isinstance(error, SourceUnavailable) for error in errors):
                raise errors[0]
            reasons = " ".join(f"{failure.name}: {failure.reason}" for failure in loaded.failures)
            transient = any(isinstance(e, SyncError) and e.error_class is ErrorClass.TRANSIENT for e in errors)
            error_class = ErrorClass.TRANSIENT if transient else ErrorClass.FATAL
            raise SyncError(f"No database of the cluster could be read. {reasons}", error_class)

    def _load_part(self, part: SyncSource, window: Window, log_id: int, loaded: _Loaded, by_database: bool) -> None:
        before = loaded.counts()

        def finish(connection: sa.Connection, counts: RowCounts, skipped: list[SkippedRow]) -> None:
            skipped_rows.record(connection, self.spec, self.cluster, self.run_id, skipped)
            sync_logs.update_counts(connection, log_id, before + counts)

        with part.open(window) as read:
            writer = BatchWriter(self.target, self.spec, finish, (by_database and read.database) or "")
            loaded.names.append(read.name)
            loaded.writers.append(writer)
            if read.window.mode is not window.mode:
                with self.target.begin() as connection:
                    sync_logs.record_window(connection, log_id, read.window)
            unlisted = set(window.mutable_keys)
            for page in read.pages:
                if unlisted:
                    unlisted.difference_update(page.values(self.spec.source_key[0].name))
                if loaded.gap and loaded.oldest_row_at is None:
                    loaded.oldest_row_at = oldest_time(self.spec, page, window.mutable_keys)
                for skipped in writer.write(page)[: MAX_SAMPLES - len(loaded.samples)]:
                    loaded.samples.append(skipped)
                    self.log.warning(f"Skipped a row: {skipped.column}: {skipped.reason}")
        if writer.slow_path:
            self.log.debug(f"The fast path is off: {writer.slow_path}")
        loaded.parts.append(_Part(read, writer))
        if read.visibility is None or read.visibility.sees_all_rows:
            loaded.unlisted = frozenset(unlisted)

    def _mark_removed(self, connection: sa.Connection, loaded: _Loaded, existing: frozenset[str] | None) -> RowCounts:
        """Mark the rows of a snapshot that its parts no longer have; count them, and those that are not decided."""
        spec = self.spec
        if spec.kind != "snapshot":
            return RowCounts()
        by_database = existing is not None
        complete = [part for part in loaded.parts if part.writer.has_all_keys]
        unread = [part for part in loaded.parts if part.writer.may_have_unread]
        if not (unread or by_database):
            return RowCounts()
        connection.execute(sa.text(read_keys_table(spec)))  # missing if no batch was written
        for part in unread:
            part.writer.record_keys(connection)
        parameters: dict[str, Any] = {"cluster": self.cluster, "existing": sorted(existing or ())}
        removed = undecided = 0
        if complete:
            parameters["databases"] = [part.read.database for part in unread if part in complete]
            removed = connection.execute(sa.text(removal_statement(spec, by_database=by_database)), parameters).rowcount
        if not all(part.writer.is_complete for part in loaded.parts):
            parameters["databases"] = [part.read.database for part in unread]
            counted = sa.text(undecided_statement(spec, by_database=by_database))
            undecided = connection.execute(counted, parameters).scalar_one()
        return RowCounts(removed=removed, undecided=undecided)

    def _written(self, connection: sa.Connection, window: Window) -> dict[str, Any]:
        """Return the parameters of `SyncSpec.after_load`: which rows were written since the last success."""
        started, newest_row = sync_logs.last_success(connection, self.cluster, self.spec.sync_job_id) or (None, None)
        read_since = newest_row - self.lookback if newest_row and window.mode is ReadMode.INCREMENTAL else None
        return {"cluster": self.cluster, "written_since": started, "read_since": read_since}

    def _without_read(self, log_id: int, status: SyncStatus, reason: str) -> LoadResult:
        self.log.info(f"{status.capitalize()}: {reason}")
        with self.postgres.transaction() as connection:
            sync_logs.finish(connection, log_id, status, error=reason, read_mode=None, read_reason=None, read_from=None)
        return LoadResult(status, reason, seconds=time.monotonic() - self.started)

    def _close_after(self, error: BaseException, log_id: int, loaded: _Loaded) -> None:
        """Close the log row of a load that failed or was terminated, unless another attempt follows."""
        # Dagster terminates a step with a BaseException that is no Exception, as Ctrl-C does.
        terminated = not isinstance(error, Exception)
        status = SyncStatus.CANCELED if terminated else SyncStatus.FAILED
        kind = "" if isinstance(error, SyncError) else f"{type(error).__name__}: "
        text = "terminated" if terminated else redact(f"{kind}{error}")
        transient = isinstance(error, SyncError) and error.error_class is ErrorClass.TRANSIENT
        try:
            with self.postgres.transaction() as connection:
                sync_logs.update_counts(connection, log_id, loaded.counts())
                if transient and not self.attempt.is_last:
                    sync_logs.record_attempt(connection, log_id, self.attempt.failure(redact(str(error))))
                    return
                sync_logs.finish(connection, log_id, status, source=next(iter(loaded.names), None), error=text)
        except SyncError as unreachable:
            self.log.warning(f"quper.sync_logs could not be closed: {redact(str(unreachable))}")
