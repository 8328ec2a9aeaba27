"""quper.sync_logs: one row per job per run, opened as running, updated with each batch, and closed.

A load holds the advisory lock of its job as long as it lives. A process that has the lock therefore knows
that each other row of that job with the status running is stale.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.postgres.sync_totals import close_and_add
from qupersync_assets.rows.row_counts import RowCounts
from qupersync_assets.rows.source_read import PartFailure, SourceRead
from qupersync_assets.spec import CLUSTER_COMMENT, METADATA, Window

Gap = tuple[datetime, datetime]  # start and end of the time whose rows are lost
STALE = "the process that loaded this job ended without closing this row"
_UTC = sa.DateTime(timezone=True)
_DURATION = "milliseconds from start to end"
_UPSERTED = "rows that the target holds as read: inserted + updated + unchanged"
_COLUMNS_MISSING = "source columns that the cluster lacks, as view.column; they are read as NULL"
_NEWEST_ROW_AT = "history tables: time of the newest row at the end of the load (UTC); it shows a restored backup"
_UNDECIDED = "rows of the target that may have been removed from the source: the load could not find out"
_CHECKS = "checks of the load that have not passed, each with its status and text; NULL: not checked"
_GAP_FROM = "start of rows that were lost (UTC): Redshift deleted them before this load; NULL: none"


def _count(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0", comment=comment)


def _generated(name: str, expression: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, sa.Computed(expression, persisted=True), comment=comment)


SYNC_LOGS = sa.Table(
    "sync_logs",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("cluster", sa.Text, nullable=False, comment=CLUSTER_COMMENT),
    sa.Column("sync_job_id", sa.Text, nullable=False, comment="the job"),
    sa.Column("run_id", sa.Text, nullable=False, comment="the Dagster run"),
    sa.Column("status", sa.Text, nullable=False, comment=f"{', '.join(SyncStatus)[: -len(', skipped')]} or skipped"),
    sa.Column("started_at", _UTC, nullable=False, comment="start of the first attempt (UTC)"),
    sa.Column("completed_at", _UTC, comment="end (UTC); NULL while running"),
    _generated("duration_ms", "(extract(epoch FROM completed_at - started_at) * 1000)::bigint", _DURATION),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="1", comment="attempts within the run"),
    _count("rows_extracted", "rows read from Redshift in committed batches"),
    _generated("rows_upserted", "rows_inserted + rows_updated + rows_unchanged", _UPSERTED),
    _count("rows_inserted", "rows that were new"),
    _count("rows_updated", "rows that differed and were replaced"),
    _count("rows_unchanged", "rows that the target had already; they were not written"),
    _count("rows_duplicate", "rows replaced by a newer row with the same key in their batch"),
    _count("rows_skipped", "rows that could not be loaded; see quper.skipped_rows"),
    _count("batches", "committed batches"),
    sa.Column("error", sa.Text, comment="why the job failed, was skipped, is unavailable, or left out databases"),
    sa.Column("source", sa.Text, comment="the Redshift views that were read; NULL: nothing was read"),
    sa.Column("columns_missing", ARRAY(sa.Text), comment=_COLUMNS_MISSING),
    _count("rows_removed", "rows of the target that a complete read did not find; they got a removed_at"),
    sa.Column("read_from", _UTC, comment="start of the rows that were read (UTC); NULL: everything that Redshift held"),
    sa.Column("read_to", _UTC, comment="end of the rows that were read, by the clock of Redshift (UTC)"),
    sa.Column("read_reason", sa.Text, comment="why the read was full or incremental"),
    sa.Column("gap_from", _UTC, comment=_GAP_FROM),
    sa.Column("gap_to", _UTC, comment="end of rows that were lost (UTC)"),
    sa.Column("read_mode", sa.Text, comment="full or incremental, also of a load that failed; NULL: nothing was read"),
    sa.Column("newest_row_at", _UTC, comment=_NEWEST_ROW_AT),
    _count("rows_undecided", _UNDECIDED),
    sa.Column("checks", JSONB(none_as_null=True), comment=_CHECKS),
    sa.UniqueConstraint("cluster", "sync_job_id", "run_id", name="sync_logs_run_key"),
    sa.Index("sync_logs_started_at_idx", sa.text("started_at DESC")),
    sa.Index("sync_logs_job_idx", "cluster", "sync_job_id", "id"),
    sa.Index("sync_logs_running_idx", "run_id", postgresql_where=sa.text("status = 'running'")),
    comment="One row per sync job per run. rows_extracted = rows_upserted + rows_duplicate + rows_skipped.",
)

_NOT_DURABLE = sa.text("SET LOCAL synchronous_commit = off")
IS_RUNNING = SYNC_LOGS.c.status == SyncStatus.RUNNING

# Compiled once: it runs with each batch.
_UPDATE_COUNTS = (
    sa.update(SYNC_LOGS)
    .where(SYNC_LOGS.c.id == sa.bindparam("log_id"))
    .values({name: sa.bindparam(name) for name in RowCounts().columns()})
)


def start(connection: sa.Connection, cluster: str, sync_job_id: str, run_id: str) -> int:
    """Open the row of a job in a run, or open it again for another attempt; return its id."""
    new = insert(SYNC_LOGS).values(
        cluster=cluster,
        sync_job_id=sync_job_id,
        run_id=run_id,
        status=SyncStatus.RUNNING,
        started_at=sa.func.clock_timestamp(),
    )
    cleared = {c.name: None for c in SYNC_LOGS.c if c.nullable and c.computed is None}
    again = new.on_conflict_do_update(
        index_elements=["cluster", "sync_job_id", "run_id"],
        set_={**cleared, **RowCounts().columns(), "status": SyncStatus.RUNNING, "attempts": SYNC_LOGS.c.attempts + 1},
    )
    log_id: int = connection.execute(again.returning(SYNC_LOGS.c.id)).scalar_one()
    return log_id


def rows_of(cluster: str | sa.ColumnElement[str], sync_job_id: str) -> sa.ColumnElement[bool]:
    """Return the condition for the rows of a job."""
    return (SYNC_LOGS.c.cluster == cluster) & (SYNC_LOGS.c.sync_job_id == sync_job_id)


def successes(cluster: str | sa.ColumnElement[str], sync_job_id: str) -> sa.ColumnElement[bool]:
    """Return the condition for the rows of a job's successful loads."""
    return rows_of(cluster, sync_job_id) & (SYNC_LOGS.c.status == SyncStatus.SUCCESS)


def last_success(connection: sa.Connection, cluster: str, sync_job_id: str) -> tuple[datetime, datetime | None] | None:
    """Return start and `newest_row_at` of the last successful load of a job; None if there was none."""
    found = sa.select(SYNC_LOGS.c.started_at, SYNC_LOGS.c.newest_row_at).where(successes(cluster, sync_job_id))
    row = connection.execute(found.order_by(SYNC_LOGS.c.id.desc()).limit(1)).first()
    return (row.started_at, row.newest_row_at) if row else None


def last_runs(connection: sa.Connection, cluster: str, sync_job_id: str, limit: int) -> Sequence[sa.RowMapping]:
    """Return the newest rows of a job, newest first."""
    rows = sa.select(SYNC_LOGS).where(rows_of(cluster, sync_job_id))
    return connection.execute(rows.order_by(SYNC_LOGS.c.id.desc()).limit(limit)).mappings().all()


def last_reads(
    connection: sa.Connection, cluster: str, sync_job_ids: Sequence[str], since: datetime
) -> dict[str, datetime]:
    """Return when the last load of each job began that read what it could, of those that began after `since`."""
    statuses = (SyncStatus.SUCCESS, SyncStatus.PARTIAL, SyncStatus.UNAVAILABLE)
    rows = (
        sa.select(SYNC_LOGS.c.sync_job_id, sa.func.max(SYNC_LOGS.c.started_at))
        .where(SYNC_LOGS.c.cluster == cluster, SYNC_LOGS.c.sync_job_id.in_(sync_job_ids))
        .where(SYNC_LOGS.c.status.in_(statuses), SYNC_LOGS.c.started_at >= since)
        .group_by(SYNC_LOGS.c.sync_job_id)
    )
    return {row[0]: row[1] for row in connection.execute(rows)}


def attempts(connection: sa.Connection) -> dict[str, tuple[bool, datetime]]:
    """Return for each cluster whether a load of it ever succeeded, and the start of its last one."""
    success = sa.func.bool_or(SYNC_LOGS.c.status == SyncStatus.SUCCESS)
    rows = sa.select(SYNC_LOGS.c.cluster, success, sa.func.max(SYNC_LOGS.c.started_at)).group_by(SYNC_LOGS.c.cluster)
    return {cluster: (succeeded, last) for cluster, succeeded, last in connection.execute(rows)}


def update_counts(connection: sa.Connection, log_id: int, counts: RowCounts) -> None:
    """Write the totals, in the transaction of the batch that they include."""
    connection.execute(_UPDATE_COUNTS, {"log_id": log_id, **counts.columns()})


def record_window(connection: sa.Connection, log_id: int, window: Window) -> None:
    """Write what a load is about to read, which its success or failure does not change."""
    chosen = {"read_mode": window.mode, "read_reason": window.reason, "read_from": window.read_from}
    connection.execute(sa.update(SYNC_LOGS).where(SYNC_LOGS.c.id == log_id).values(chosen))


def finish(connection: sa.Connection, log_id: int, status: SyncStatus, **columns: Any) -> None:
    """Close a running row; `columns` are further columns."""
    _close(connection, SYNC_LOGS.c.id == log_id, status, **columns)


def record_checks(
    connection: sa.Connection, cluster: str, sync_job_id: str, run_id: str, checks: Mapping[str, Mapping[str, str]]
) -> None:
    """Write the checks of a load that have not passed; a crash of the server may lose them."""
    connection.execute(_NOT_DURABLE)
    row = rows_of(cluster, sync_job_id) & (SYNC_LOGS.c.run_id == run_id)
    connection.execute(sa.update(SYNC_LOGS).where(row).values(checks=checks))


def record_attempt(connection: sa.Connection, log_id: int, text: str) -> None:
    """Write why an attempt failed; the row stays running, because another attempt follows."""
    connection.execute(sa.update(SYNC_LOGS).where(SYNC_LOGS.c.id == log_id).values(error=text))


def finish_success(
    connection: sa.Connection,
    log_id: int,
    read: SourceRead,
    counts: RowCounts,
    gap: Gap | None,
    newest_row_at: sa.ScalarSelect[datetime] | None,
    failures: Sequence[PartFailure] = (),
) -> None:
    """Close the row of a load that succeeded, except for `failures`."""
    gap_from, gap_to = gap or (None, None)
    finish(
        connection,
        log_id,
        SyncStatus.PARTIAL if failures else SyncStatus.SUCCESS,
        error=" ".join(f"Database {failure.name}: {failure.reason}" for failure in failures) or None,
        source=read.name,
        columns_missing=list(read.missing_columns) or None,
        **counts.columns(),
        read_from=read.window.read_from,
        read_to=read.read_to,
        read_mode=read.window.mode,
        read_reason=read.window.reason,
        gap_from=gap_from,
        gap_to=gap_to,
        newest_row_at=newest_row_at,
    )


def close_run(
    connection: sa.Connection,
    cluster: str,
    run_id: str,
    errors: dict[str, str],
    status: SyncStatus,
    started_at: float,
    ended_at: float,
) -> int:
    """Close or add the rows of a run that ended without closing them itself; return their number.

    `errors` holds, by sync_job_id, why each job of the run did not succeed; the times are Unix timestamps. A row
    that its own step closed is not changed.
    """
    closed = 0
    for job, error in sorted(errors.items()):
        new = insert(SYNC_LOGS).values(
            cluster=cluster,
            sync_job_id=job,
            run_id=run_id,
            status=status,
            started_at=sa.func.to_timestamp(started_at),
            completed_at=sa.func.to_timestamp(ended_at),
            error=error,
        )
        changed = {name: new.excluded[name] for name in ("status", "completed_at", "error")}
        statement = new.on_conflict_do_update(constraint="sync_logs_run_key", set_=changed, where=IS_RUNNING)
        closed += close_and_add(connection, statement, SYNC_LOGS)
    return closed


def close_stale_rows(connection: sa.Connection, cluster: str, sync_job_id: str, run_id: str) -> None:
    """Close the running rows that other runs left behind; the caller holds the lock of the job."""
    of_others = rows_of(cluster, sync_job_id) & (SYNC_LOGS.c.run_id != run_id)
    _close(connection, of_others & IS_RUNNING, SyncStatus.FAILED, error=STALE)


def mark_stale(
    connection: sa.Connection,
    cluster: str,
    run_id: str,
    status: SyncStatus,
    error: str,
    except_for: Collection[str] = (),
) -> None:
    """Close all rows of a run that are still running, except for those of some jobs."""
    of_run = (SYNC_LOGS.c.cluster == cluster) & (SYNC_LOGS.c.run_id == run_id)
    _close(connection, of_run & IS_RUNNING & SYNC_LOGS.c.sync_job_id.not_in(except_for), status, error=error)


def running(connection: sa.Connection, cluster: str, sync_job_ids: Sequence[str]) -> set[str]:
    """Return the ids of the runs that have running rows of these jobs."""
    return _run_ids(connection, cluster, sync_job_ids, IS_RUNNING)


def running_clusters(connection: sa.Connection) -> list[str]:
    """Return the clusters that have running rows."""
    return list(connection.scalars(sa.select(SYNC_LOGS.c.cluster).where(IS_RUNNING).distinct()))


def active_runs(
    connection: sa.Connection,
    cluster: str,
    run_ids: Sequence[str],
    sync_job_ids: Sequence[str],
    locked: Collection[str],
    seconds: float,
) -> set[str]:
    """Return those of the runs that load a job now, or ended a load within the last `seconds`.

    A load closes the running rows of other runs when it gets the lock: the running row of a `locked` job is
    the row of the load.
    """
    loading = IS_RUNNING & SYNC_LOGS.c.sync_job_id.in_(locked)
    ended = SYNC_LOGS.c.completed_at > sa.func.clock_timestamp() - timedelta(seconds=seconds)
    return _run_ids(connection, cluster, sync_job_ids, SYNC_LOGS.c.run_id.in_(run_ids) & (loading | ended))


def _close(connection: sa.Connection, rows: sa.ColumnElement[bool], status: SyncStatus, **columns: Any) -> None:
    ended = {"status": status, "completed_at": sa.func.clock_timestamp(), **columns}
    close_and_add(connection, sa.update(SYNC_LOGS).where(rows).values(ended), SYNC_LOGS)


def _run_ids(
    connection: sa.Connection, cluster: str, sync_job_ids: Sequence[str], rows: sa.ColumnElement[bool]
) -> set[str]:
    of_jobs = (SYNC_LOGS.c.cluster == cluster) & SYNC_LOGS.c.sync_job_id.in_(sync_job_ids)
    return set(connection.scalars(sa.select(SYNC_LOGS.c.run_id).where(of_jobs, rows)))
