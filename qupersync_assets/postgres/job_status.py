"""The state of each job, from quper.sync_logs and, for its lag, from its table."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from qupersync_assets.core.errors import UNDEFINED_TABLE, SyncError
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import PRESENT, VERSION_TABLE, VersionState, check_version, read_version
from qupersync_assets.postgres.sync_logs import IS_RUNNING, SYNC_LOGS
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.postgres.sync_totals import SYNC_TOTALS
from qupersync_assets.postgres.watermark import newest
from qupersync_assets.spec import SCHEMA, SyncSpec

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
    totals: dict[str, dict[str, int]] = field(default_factory=dict)  # rows of quper.sync_totals by status
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
    """Return the states of the jobs of each cluster, in their order, with one statement if each job has its table.

    Raises:
        SyncError: PostgreSQL cannot be reached, or its schema has another version.
    """
    all_jobs = [(cluster, spec) for cluster, specs in jobs.items() for spec in specs]
    try:
        return _states(postgres, all_jobs)
    except SyncError as error:
        if error.sqlstate != UNDEFINED_TABLE:
            raise
    usable = is_usable(postgres)
    missing = read_version(postgres, [spec for _, spec in all_jobs]).missing
    with_table = [(cluster, spec) for cluster, spec in all_jobs if usable and spec.table.name not in missing]
    found = {(state.cluster, state.sync_job_id): state for state in _states(postgres, with_table)} if with_table else {}
    with postgres.transaction() as connection:
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
    return [
        found.get((cluster, spec.sync_job_id)) or JobState(cluster, spec.sync_job_id, now) for cluster, spec in all_jobs
    ]


def _states(postgres: PostgresResource, jobs: Sequence[tuple[str, SyncSpec]]) -> list[JobState]:
    """Return the states of jobs whose tables exist, in their order."""
    with postgres.transaction() as connection:
        rows = connection.execute(_statement(jobs)).mappings().all()
    found = check_version(rows[0]["version"], rows[0]["present"])
    if found.state is not VersionState.CURRENT:
        raise found.error()
    states = {(row["cluster"], row["sync_job_id"]): _state(row) for row in rows}
    return [states[cluster, spec.sync_job_id] for cluster, spec in jobs]


def _state(row: sa.RowMapping) -> JobState:
    def log(name: str) -> Log | None:
        found = {c.name: row[f"{name}_{c.name}"] for c in SYNC_LOGS.c}
        return found if found["id"] is not None else None

    success = log("success")
    return JobState(
        row["cluster"],
        row["sync_job_id"],
        row["now"],
        running=log("running"),
        last=log("last"),
        last_success_at=success["completed_at"] if success else None,
        failures=row["failures"],
        newest_row_at=row["newest_row_at"],
        totals={total["status"]: total for total in row["totals"] or ()},
    )


def _statement(jobs: Sequence[tuple[str, SyncSpec]]) -> sa.Select[Any]:
    """Return the statement that reads the states of jobs, and the version of the schema."""
    names = sa.values(sa.column("cluster", sa.Text), sa.column("sync_job_id", sa.Text), name="jobs").data(
        [(cluster, spec.sync_job_id) for cluster, spec in jobs]
    )
    log, totals = SYNC_LOGS.c, SYNC_TOTALS.c
    own = (log.cluster == names.c.cluster) & (log.sync_job_id == names.c.sync_job_id)
    newest_first = sa.select(SYNC_LOGS).where(own).order_by(log.started_at.desc(), log.id.desc()).limit(1)
    conditions = {"running": IS_RUNNING, "last": ~IS_RUNNING, "success": log.status == SyncStatus.SUCCESS}
    logs = {name: newest_first.where(condition).lateral(name) for name, condition in conditions.items()}
    success = logs["success"].c
    failed = log.status.in_((SyncStatus.FAILED, SyncStatus.PARTIAL))
    since = (log.started_at > success.started_at) | success.started_at.is_(None)
    failures = sa.select(sa.func.count()).where(own, failed, since)
    of_job = (totals.cluster == names.c.cluster) & (totals.sync_job_id == names.c.sync_job_id)
    sums = sa.select(sa.func.jsonb_agg(sa.func.to_jsonb(SYNC_TOTALS.table_valued()))).where(of_job)
    specs = {spec.sync_job_id: spec for _, spec in jobs}
    branches = [
        (names.c.sync_job_id == job, newest(spec, names.c.cluster).scalar_subquery())
        for job, spec in specs.items()
        if spec.time_column is not None
    ]
    last_read = sa.func.coalesce(success.read_to, success.started_at)
    statement = sa.select(
        names.c.cluster,
        names.c.sync_job_id,
        sa.func.now().label("now"),
        sa.literal_column(f"(SELECT version_num FROM {SCHEMA}.{VERSION_TABLE})").label("version"),
        sa.literal_column(PRESENT).label("present"),
        (sa.case(*branches, else_=last_read) if branches else last_read).label("newest_row_at"),
        failures.correlate(names, logs["success"]).scalar_subquery().label("failures"),
        sums.correlate(names).scalar_subquery().label("totals"),
        *(found.c[c.name].label(f"{name}_{c.name}") for name, found in logs.items() for c in SYNC_LOGS.c),
    )
    joined: Any = names
    for found in logs.values():
        joined = joined.outerjoin(found, sa.true())
    return statement.select_from(joined)


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
