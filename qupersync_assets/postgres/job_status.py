"""The state of each job, from quper.sync_logs and, for its lag, from its table."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import VersionState, read_version
from qupersync_assets.postgres.sync_logs import IS_RUNNING, SYNC_LOGS, rows_of, successes
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.postgres.watermark import newest
from qupersync_assets.spec import SyncSpec

Log = dict[str, Any]
OFF = "off (SYNC_JOBS)"


@dataclass(frozen=True)
class JobState:
    """The state of one job of one cluster."""

    cluster: str
    sync_job_id: str
    now: datetime  # the clock of PostgreSQL (UTC)
    running: Log | None = None  # the row of quper.sync_logs of the running run
    last: Log | None = None  # the row of the last run that ended
    last_success_at: datetime | None = None  # end of the last success
    failures: int = 0  # failed runs since then, and those that left out databases
    newest_row_at: datetime | None = None  # time of the newest row of a history; last read of a snapshot
    today: dict[str, int] = field(default_factory=dict)  # runs that ended since midnight UTC, by status
    rows_today: dict[str, int] = field(default_factory=dict)  # their rows, by kind
    is_off: bool = False  # SYNC_JOBS of the cluster does not name the job; its table and its runs are kept

    @property
    def status(self) -> str:
        """The status of the running run, else of the last one, for people."""
        log = self.running or self.last
        return OFF if self.is_off else str(log["status"]) if log else "never"

    @property
    def lag(self) -> float | None:
        """Seconds since the newest row; None without rows."""
        return (self.now - self.newest_row_at).total_seconds() if self.newest_row_at else None


# Kind of rows -> column of quper.sync_logs.
KINDS = {c.name.removeprefix("rows_"): c.name for c in SYNC_LOGS.c if c.name.startswith("rows_")}


def is_usable(postgres: PostgresResource) -> bool:
    """Whether there is a schema quper, of this QuperSync's version.

    Raises:
        SyncError: there is one of another version; or PostgreSQL cannot be reached.
    """
    found = read_version(postgres)
    if found.state not in (VersionState.CURRENT, VersionState.NONE):
        raise found.error()
    return found.state is VersionState.CURRENT


def job_states(postgres: PostgresResource, jobs: Mapping[str, Sequence[SyncSpec]]) -> list[JobState]:
    """Return the states of the jobs of each cluster, in their order.

    Raises:
        SyncError: PostgreSQL cannot be reached, or its schema has another version.
    """
    usable = is_usable(postgres)
    missing = read_version(postgres, [spec for specs in jobs.values() for spec in specs]).missing
    with postgres.transaction() as connection:
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
        return [
            _job_state(connection, now, cluster, spec)
            if usable and spec.table.name not in missing
            else JobState(cluster, spec.sync_job_id, now)
            for cluster, specs in jobs.items()
            for spec in specs
        ]


def _job_state(connection: sa.Connection, now: datetime, cluster: str, spec: SyncSpec) -> JobState:
    own, status = rows_of(cluster, spec.sync_job_id), SYNC_LOGS.c.status
    newest_first = (SYNC_LOGS.c.started_at.desc(), SYNC_LOGS.c.id.desc())
    last = sa.select(SYNC_LOGS).where(own).order_by(*newest_first).limit(1)
    success = _row(connection, last.where(successes(cluster, spec.sync_job_id)))
    failed = sa.select(sa.func.count()).where(own, status.in_((SyncStatus.FAILED, SyncStatus.PARTIAL)))
    if success:
        failed = failed.where(SYNC_LOGS.c.started_at > success["started_at"])
    midnight = sa.func.date_trunc("day", sa.func.now(), "UTC")
    # A run takes less than a day; started_at has an index.
    started_lately = SYNC_LOGS.c.started_at >= midnight - sa.text("interval '1 day'")
    sums = [sa.func.sum(SYNC_LOGS.c[name]).label(kind) for kind, name in KINDS.items()]
    by_status = sa.select(status, sa.func.count().label("runs"), *sums).group_by(status)
    ended_today = by_status.where(own, started_lately, SYNC_LOGS.c.completed_at >= midnight)
    today = connection.execute(ended_today).mappings().all()
    return JobState(
        cluster,
        spec.sync_job_id,
        now,
        running=_row(connection, last.where(IS_RUNNING)),
        last=_row(connection, last.where(~IS_RUNNING)),
        last_success_at=success["completed_at"] if success else None,
        failures=connection.scalar(failed) or 0,
        newest_row_at=connection.scalar(newest(spec, cluster)),
        today={row["status"]: row["runs"] for row in today},
        rows_today={kind: sum(int(row[kind]) for row in today) for kind in KINDS},
    )


def _row(connection: sa.Connection, statement: sa.Select[Any]) -> Log | None:
    row = connection.execute(statement).mappings().first()
    return dict(row) if row else None


def log_rows(
    postgres: PostgresResource,
    clusters: Sequence[str],
    *,
    run_ids: Collection[str] = (),
    jobs: Collection[str] = (),
    statuses: Collection[str] = (),
    since: datetime | None = None,
    limit: int | None = None,
) -> list[Log]:
    """Return rows of quper.sync_logs, newest first; an empty filter selects all rows.

    Raises:
        SyncError: PostgreSQL cannot be reached, or its schema has another version.
    """
    if not is_usable(postgres):
        return []
    log = SYNC_LOGS.c
    statement = sa.select(SYNC_LOGS).where(log.cluster.in_(clusters))
    for column, values in ((log.run_id, run_ids), (log.sync_job_id, jobs), (log.status, statuses)):
        if values:
            statement = statement.where(column.in_(values))
    if since is not None:
        statement = statement.where(log.started_at >= since)
    with postgres.transaction() as connection:
        rows = connection.execute(statement.order_by(log.started_at.desc(), log.id.desc()).limit(limit))
        return [dict(row) for row in rows.mappings()]
