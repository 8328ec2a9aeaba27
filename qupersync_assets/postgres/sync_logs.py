"""quper.sync_logs: one row a job and Dagster run: opened as running, kept up with each batch, closed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from qupersync_assets.rows.coercion import Counts
from qupersync_assets.spec.sync_spec import METADATA

Ending = Literal["success", "failed", "canceled", "unavailable", "skipped"]
_UTC = sa.DateTime(timezone=True)


def _count(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0", comment=comment)


SYNC_LOGS = sa.Table(
    "sync_logs",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("cluster", sa.Text, nullable=False, comment="CLUSTER_NAME of the source cluster"),
    sa.Column("sync_job_id", sa.Text, nullable=False, comment="the job"),
    sa.Column("run_id", sa.Text, nullable=False, comment="the Dagster run"),
    sa.Column(
        "status",
        sa.Text,
        nullable=False,
        comment="running, success, failed, canceled, unavailable or skipped",
    ),
    sa.Column("started_at", _UTC, nullable=False, comment="start of the first attempt (UTC)"),
    sa.Column("completed_at", _UTC, comment="end (UTC); NULL while running"),
    sa.Column(
        "duration_ms",
        sa.BigInteger,
        sa.Computed("(extract(epoch FROM completed_at - started_at) * 1000)::bigint", persisted=True),
        comment="milliseconds from start to end",
    ),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="1", comment="tries within the run"),
    _count("rows_extracted", "rows read from Redshift in committed batches"),
    sa.Column(
        "rows_upserted",
        sa.BigInteger,
        sa.Computed("rows_inserted + rows_updated + rows_unchanged", persisted=True),
        comment="rows that the target holds as read: inserted + updated + unchanged",
    ),
    _count("rows_inserted", "rows that were new"),
    _count("rows_updated", "rows that differed and were written again"),
    _count("rows_unchanged", "rows that the target held already, not written"),
    _count("rows_duplicate", "rows that gave way to a newer one with the same key in their batch"),
    _count("rows_skipped", "rows that could not be loaded; see quper.skipped_rows"),
    _count("batches", "committed batches"),
    sa.Column("error", sa.Text, comment="why the run did not succeed, was skipped, or has no source"),
    sa.Column("source", sa.Text, comment="the Redshift views that were read; NULL if none was"),
    sa.Column("columns_missing", sa.Text, comment="source columns that the cluster lacks, read as NULL"),
    _count("rows_removed", "rows of the target that a complete read lacked, and that got a removed_at"),
    sa.Column("read_from", _UTC, comment="rows from then on (UTC) were read; NULL: all that Redshift held"),
    sa.Column("read_to", _UTC, comment="up to then, by the clock of Redshift (UTC)"),
    sa.Column("read_why", sa.Text, comment="why so much: news, first read of the day, full refresh ..."),
    sa.Column("gap_from", _UTC, comment="rows from then on (UTC) are missing for good; NULL: none are"),
    sa.Column("gap_to", _UTC, comment="up to then: what Redshift still held"),
    sa.UniqueConstraint("cluster", "sync_job_id", "run_id", name="sync_logs_run_key"),
    sa.Index("sync_logs_started_at_idx", sa.text("started_at DESC")),
    sa.Index("sync_logs_running_idx", "run_id", postgresql_where=sa.text("status = 'running'")),
    comment="One row a sync job and run. rows_extracted = rows_upserted + rows_duplicate + rows_skipped.",
)

# Made once, for it is run with each batch.
_KEEP_UP = (
    sa.update(SYNC_LOGS)
    .where(SYNC_LOGS.c.id == sa.bindparam("log_id"))
    .values({name: sa.bindparam(name) for name in Counts().columns()})
)


def start(connection: sa.Connection, cluster: str, sync_job_id: str, run_id: str) -> int:
    """Open the row of a job and run, or open it again for another attempt, and return its id."""
    new = insert(SYNC_LOGS).values(
        cluster=cluster,
        sync_job_id=sync_job_id,
        run_id=run_id,
        status="running",
        started_at=sa.func.clock_timestamp(),
    )
    again = new.on_conflict_do_update(
        index_elements=["cluster", "sync_job_id", "run_id"],
        set_={
            "status": "running",
            "completed_at": None,
            "error": None,
            "source": None,
            "columns_missing": None,
            "read_from": None,
            "read_to": None,
            "read_why": None,
            "gap_from": None,
            "gap_to": None,
            "attempts": SYNC_LOGS.c.attempts + 1,
            **Counts().columns(),
        },
    )
    log_id: int = connection.execute(again.returning(SYNC_LOGS.c.id)).scalar_one()
    return log_id


def find_gap(
    connection: sa.Connection, cluster: str, sync_job_id: str, retention: timedelta
) -> tuple[datetime, datetime] | None:
    """From when to when rows were lost: the last success began before what the source still holds.

    Args:
        retention: how long the source holds its rows.
    """
    last_success = (
        sa.select(sa.func.max(SYNC_LOGS.c.started_at))
        .where(SYNC_LOGS.c.cluster == cluster, SYNC_LOGS.c.sync_job_id == sync_job_id)
        .where(SYNC_LOGS.c.status == "success")
    )
    last, now = connection.execute(sa.select(last_success.scalar_subquery(), sa.func.now())).one()
    return (last, now - retention) if last is not None and last < now - retention else None


def last_runs(connection: sa.Connection, cluster: str, sync_job_id: str, limit: int) -> list[sa.RowMapping]:
    """The newest rows of a job, newest first."""
    statement = (
        sa.select(SYNC_LOGS)
        .where(SYNC_LOGS.c.cluster == cluster, SYNC_LOGS.c.sync_job_id == sync_job_id)
        .order_by(SYNC_LOGS.c.id.desc())
        .limit(limit)
    )
    return list(connection.execute(statement).mappings())


def keep_up(connection: sa.Connection, log_id: int, counts: Counts) -> None:
    """Write the totals, in the transaction of the batch that they include."""
    connection.execute(_KEEP_UP, {"log_id": log_id, **counts.columns()})


def finish(
    connection: sa.Connection,
    log_id: int,
    status: Ending,
    source: str | None = None,
    error: str | None = None,
    **more: Any,
) -> None:
    """Close a row that is running; `more` are further columns."""
    connection.execute(
        sa.update(SYNC_LOGS)
        .where(SYNC_LOGS.c.id == log_id)
        .values(status=status, source=source, error=error, completed_at=sa.func.clock_timestamp(), **more)
    )


def close_run(
    connection: sa.Connection,
    cluster: str,
    run_id: str,
    errors: dict[str, str],
    status: Ending,
    started_at: float,
    ended_at: float,
) -> int:
    """Close or add the rows of a run that ended without closing them itself.

    Args:
        errors: why it did not succeed, by sync_job_id; one entry for each job that the run was to do and that
            did not succeed.
        started_at, ended_at: Unix timestamps of the run.

    Returns:
        How many rows were closed or added; a row that was closed by its own step stays as it is.
    """
    if not errors:
        return 0
    new = insert(SYNC_LOGS)
    statement = new.on_conflict_do_update(
        index_elements=["cluster", "sync_job_id", "run_id"],
        set_={name: new.excluded[name] for name in ("status", "completed_at", "error")},
        where=SYNC_LOGS.c.status == "running",
    )
    rows = [
        {
            "cluster": cluster,
            "sync_job_id": job,
            "run_id": run_id,
            "status": status,
            "started_at": sa.func.to_timestamp(started_at),
            "completed_at": sa.func.to_timestamp(ended_at),
            "error": error,
        }
        for job, error in sorted(errors.items())
    ]
    return sum(connection.execute(statement.values(row)).rowcount for row in rows)


def abandon(
    connection: sa.Connection,
    cluster: str,
    run_id: str,
    status: Ending,
    error: str,
    except_for: Collection[str] = (),
) -> None:
    """Close all rows of a run that are still running, except for those of some jobs."""
    connection.execute(
        sa.update(SYNC_LOGS)
        .where(SYNC_LOGS.c.cluster == cluster, SYNC_LOGS.c.run_id == run_id)
        .where(SYNC_LOGS.c.status == "running", SYNC_LOGS.c.sync_job_id.not_in(except_for))
        .values(status=status, error=error, completed_at=sa.func.clock_timestamp())
    )


def running(connection: sa.Connection, cluster: str, sync_job_ids: Sequence[str]) -> set[str]:
    """The Dagster runs of which a row of these jobs is still running."""
    return set(
        connection.scalars(
            sa.select(SYNC_LOGS.c.run_id)
            .where(SYNC_LOGS.c.cluster == cluster, SYNC_LOGS.c.sync_job_id.in_(sync_job_ids))
            .where(SYNC_LOGS.c.status == "running")
        )
    )
