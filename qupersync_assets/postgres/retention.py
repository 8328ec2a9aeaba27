"""Delete old rows of history and bookkeeping tables, in small transactions."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta

import sqlalchemy as sa

from qupersync_assets.postgres.daily_history import SNAPSHOT_DAYS
from qupersync_assets.postgres.health_tables import HEALTH_FINDINGS
from qupersync_assets.postgres.query_sums import PATTERN_DAYS, QUERY_HOURS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import read_version
from qupersync_assets.postgres.skipped_rows import SKIPPED_ROWS
from qupersync_assets.postgres.sync_logs import IS_RUNNING, SYNC_LOGS
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.spec import SyncSpec

BATCH_ROWS = 5000


def purge_history(
    postgres: PostgresResource, cluster: str, specs: Sequence[SyncSpec], days: float | None, *, dry_run: bool = False
) -> dict[str, int]:
    """Delete history rows older than `days` (None: none), or only count them; return their number by table."""
    if days is None:
        return {}
    oldest = sa.func.now() - timedelta(days=days)
    ages = {spec.table: spec.table.c[spec.time_column] for spec in specs if spec.time_column}
    # A row without a time is as old as its last write.
    old = {table: (time < oldest) | (time.is_(None) & (table.c.synced_at < oldest)) for table, time in ages.items()}
    return _delete_each(postgres, cluster, specs, old, dry_run)


def purge_removed(
    postgres: PostgresResource, cluster: str, specs: Sequence[SyncSpec], days: float, *, dry_run: bool = False
) -> dict[str, int]:
    """Delete rows of snapshots that were removed before the last `days`, or only count them; return their number by
    table."""
    oldest = sa.func.now() - timedelta(days=days)
    old = {spec.table: spec.table.c.removed_at < oldest for spec in specs if spec.kind == "snapshot"}
    return _delete_each(postgres, cluster, specs, old, dry_run)


def purge_daily(
    postgres: PostgresResource, cluster: str, specs: Sequence[SyncSpec], days: float | None, *, dry_run: bool = False
) -> dict[str, int]:
    """Delete rows of daily histories and of quper.snapshot_days older than `days` (None: none), or only count them;
    return their number by table. The newest older row of an object stays, because later days refer to it."""
    deleted: dict[str, int] = {}
    if days is None:
        return deleted
    first = sa.cast(sa.func.timezone("UTC", sa.func.now() - timedelta(days=days)), sa.Date)
    missing = read_version(postgres, specs).missing
    for table in (spec.daily.table for spec in specs if spec.daily):
        if table.name not in missing:
            later = table.alias()
            key = [c.name for c in table.primary_key.columns if c.name != "day"]
            same = sa.and_(*(later.c[name] == table.c[name] for name in key))
            replaced = sa.exists().where(same, later.c.day > table.c.day, later.c.day <= first)
            old = (table.c.cluster == cluster) & (table.c.day < first)
            # The row of a removal goes last: without it the row before would show the object again.
            steps = [replaced | table.c.removed] if dry_run else [replaced, table.c.removed]
            deleted[table.fullname] = sum(_delete(postgres, table, old & step, dry_run) for step in steps)
    if SNAPSHOT_DAYS.name not in missing:
        old = (SNAPSHOT_DAYS.c.cluster == cluster) & (SNAPSHOT_DAYS.c.day < first)
        deleted[SNAPSHOT_DAYS.fullname] = _delete(postgres, SNAPSHOT_DAYS, old, dry_run)
    return deleted


def purge_health(
    postgres: PostgresResource, cluster: str, days: float | None, *, dry_run: bool = False
) -> dict[str, int]:
    """Delete findings that were resolved, and sums over queries, before the last `days` (None: none), or only count
    them; return their number by table."""
    if days is None or read_version(postgres).missing:
        return {}
    oldest = sa.func.now() - timedelta(days=days)
    old = {
        HEALTH_FINDINGS: HEALTH_FINDINGS.c.resolved_at < oldest,
        QUERY_HOURS: QUERY_HOURS.c.hour < oldest,
        PATTERN_DAYS: PATTERN_DAYS.c.day < oldest,
    }
    return {
        table.fullname: _delete(postgres, table, (table.c.cluster == cluster) & condition, dry_run)
        for table, condition in old.items()
    }


def purge_logs(postgres: PostgresResource, cluster: str, days: float, *, dry_run: bool = False) -> dict[str, int]:
    """Delete rows of quper.sync_logs and quper.skipped_rows that are older than `days`, or only count them; return
    their number by table. The last success of each job stays, because gaps are measured from it."""
    oldest = sa.func.now() - timedelta(days=days)
    successes = (
        sa.select(sa.func.max(SYNC_LOGS.c.id))
        .where(SYNC_LOGS.c.cluster == cluster, SYNC_LOGS.c.status == SyncStatus.SUCCESS)
        .group_by(SYNC_LOGS.c.sync_job_id)
    )
    logs = (SYNC_LOGS.c.cluster == cluster) & (SYNC_LOGS.c.started_at < oldest)
    logs &= ~IS_RUNNING & SYNC_LOGS.c.id.not_in(successes)
    skipped = (SKIPPED_ROWS.c.cluster == cluster) & (SKIPPED_ROWS.c.last_seen < oldest)
    return {
        SYNC_LOGS.fullname: _delete(postgres, SYNC_LOGS, logs, dry_run),
        SKIPPED_ROWS.fullname: _delete(postgres, SKIPPED_ROWS, skipped, dry_run),
    }


def _delete_each(
    postgres: PostgresResource,
    cluster: str,
    specs: Sequence[SyncSpec],
    old: Mapping[sa.Table, sa.ColumnElement[bool]],
    dry_run: bool,
) -> dict[str, int]:
    """Delete the old rows of a cluster in each table that exists, or only count them."""
    missing = read_version(postgres, specs).missing
    return {
        table.fullname: _delete(postgres, table, (table.c.cluster == cluster) & condition, dry_run)
        for table, condition in old.items()
        if table.name not in missing
    }


def _delete(postgres: PostgresResource, table: sa.Table, condition: sa.ColumnElement[bool], dry_run: bool) -> int:
    if dry_run:
        with postgres.transaction() as connection:
            count = sa.select(sa.func.count()).select_from(table).where(condition)
            return connection.scalar(count) or 0
    ctid: sa.ColumnClause[str] = sa.column("ctid", sa.Text)
    some = sa.select(ctid).select_from(table).where(condition).limit(BATCH_ROWS)
    # Partitions of one table have equal ctids, hence the condition again.
    statement = sa.delete(table).where(ctid == sa.any_(sa.func.array(some.scalar_subquery())), condition)
    return delete_in_batches(postgres.transaction, statement)


def delete_in_batches(transaction: Callable[[], AbstractContextManager[sa.Connection]], statement: sa.Delete) -> int:
    """Execute a statement that deletes about BATCH_ROWS rows until none remain, in transactions that hold locks
    briefly; return the number of rows."""
    deleted = 0
    while True:
        with transaction() as connection:
            rows = connection.execute(statement).rowcount
        deleted += rows
        if rows < BATCH_ROWS:
            return deleted
