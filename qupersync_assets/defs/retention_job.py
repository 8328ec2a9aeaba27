"""What is deleted when it is old: history, bookkeeping, and Dagster's own runs; daily, in small batches."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from qupersync_assets.core.redaction import redact_exceptions
from qupersync_assets.defs.names import ASSET_JOB, JOB_NAME, asset_key
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.retention import BATCH_ROWS, purge_history, purge_logs
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec

MAINTENANCE_NAME = "qupersync_maintenance"

BATCH_RUNS = 50

# However old they are: without its last runs the UI would know nothing of an asset.
KEPT_RUNS = 100


def purge_runs(
    instance: dg.DagsterInstance, specs: Sequence[SyncSpec], days: float, *, dry_run: bool = False
) -> dict[str, int]:
    """Delete ended runs of ours that are older than `days`, with their events, and evaluations of checks as
    old, or just count them; return how many. The last of each stay."""
    keys = {asset_key(spec) for spec in specs}
    border = datetime.now(UTC) - timedelta(days=days)
    deleted = 0
    for job_name in (JOB_NAME, *(spec.sync_job_id for spec in specs), MAINTENANCE_NAME, ASSET_JOB):
        newest = instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=KEPT_RUNS)
        kept = {record.dagster_run.run_id for record in newest}
        cursor = None
        while True:
            filters = dg.RunsFilter(job_name=job_name, created_before=border)
            records = instance.get_run_records(filters, limit=BATCH_RUNS, cursor=cursor)
            for record in records:
                run = record.dagster_run
                foreign = job_name == ASSET_JOB and not (run.asset_selection or set()) & keys
                is_old = run.is_finished and run.run_id not in kept and not foreign
                deleted += is_old
                if is_old and not dry_run:
                    # Dagster would leave what the steps have written to stdout and stderr.
                    instance.compute_log_manager.delete_logs(prefix=[run.run_id])
                    instance.delete_run(run.run_id)
                else:
                    cursor = run.run_id
            if len(records) < BATCH_RUNS:
                break
    return {"runs": deleted, "check evaluations": _purge_evaluations(instance, keys, border, dry_run)}


def _purge_evaluations(
    instance: dg.DagsterInstance, keys: set[dg.AssetKey], border: datetime, dry_run: bool
) -> int:
    """Dagster deletes a run without the evaluations of its checks, which would pile up."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return 0
    table = AssetCheckExecutionsTable
    old = table.c.create_timestamp < border.replace(tzinfo=None)
    old &= table.c.asset_key.in_([key.to_string() for key in keys])
    newest = sa.select(sa.func.max(table.c.id)).group_by(
        table.c.asset_key, table.c.check_name, table.c.partition
    )
    if dry_run:
        with storage.index_connection() as connection:
            count = sa.select(sa.func.count()).select_from(table).where(old, table.c.id.not_in(newest))
            return connection.scalar(count) or 0
    some = sa.select(table.c.id).where(old, table.c.id.not_in(newest)).limit(BATCH_ROWS)
    deleted = 0
    while True:
        with storage.index_connection() as connection:
            rows = connection.execute(
                sa.delete(table).where(table.c.id.in_(some.subquery().select()))
            ).rowcount
        deleted += rows
        if rows < BATCH_ROWS:
            return deleted


def build_maintenance(
    specs: Sequence[SyncSpec], settings: Settings
) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """The job that deletes what is old, and its schedule."""

    @dg.op(
        description="Deletes what is older than QUPER_RETENTION_DAYS, SYNC_LOG_RETENTION_DAYS and the like."
    )
    def purge(context: dg.OpExecutionContext, postgres: dg.ResourceParam[PostgresResource]) -> None:
        deleted: Counter[str] = Counter()
        with redact_exceptions():
            ensure_schema(postgres)
            for cluster in settings.by_cluster():
                deleted.update(purge_history(postgres, cluster, specs, settings.quper_retention_days))
                deleted.update(purge_logs(postgres, cluster, settings.sync_log_retention_days))
            deleted.update(purge_runs(context.instance, specs, settings.dagster_run_retention_days))
        context.log.info("Deleted: " + ", ".join(f"{count} {what}" for what, count in deleted.items()))
        context.add_output_metadata({f"deleted {what}": count for what, count in deleted.items()})

    @dg.job(
        name=MAINTENANCE_NAME,
        executor_def=dg.in_process_executor,
        description="Deletes what is old: history, quper.sync_logs, quper.skipped_rows, Dagster's runs.",
    )
    def maintenance() -> None:
        purge()

    schedule = dg.ScheduleDefinition(
        name=f"{MAINTENANCE_NAME}_schedule",
        job=maintenance,
        cron_schedule="40 3 * * *",
        execution_timezone=settings.sync_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Deletes what is old, once a night.",
    )
    return maintenance, schedule
