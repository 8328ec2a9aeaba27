"""The job that deletes old rows and old Dagster runs every night, in small batches."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from qupersync_assets.core.redaction import redact_exceptions
from qupersync_assets.defs.dagster_internals import purge_evaluations
from qupersync_assets.defs.executors import run_tags
from qupersync_assets.defs.names import ASSET_JOB, JOB_NAME, asset_key
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.retention import purge_history, purge_logs
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec

MAINTENANCE_NAME = "qupersync_maintenance"
BATCH_RUNS = 50

# The newest runs of each job stay, so that the UI always shows the last state of each asset.
KEPT_RUNS = 100


def purge_runs(
    instance: dg.DagsterInstance, specs: Sequence[SyncSpec], days: float, *, dry_run: bool = False
) -> dict[str, int]:
    """Delete finished sync runs older than `days`, with their events, and evaluations of checks as old.

    The newest KEPT_RUNS runs of each job stay.

    Args:
        instance: stores the runs.
        specs: the sync jobs; runs of other assets stay.
        days: minimum age in days.
        dry_run: count, and delete nothing.

    Returns:
        The numbers of deleted runs and check evaluations.
    """
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
                    # Dagster deletes a run without the stdout and stderr of its steps.
                    instance.compute_log_manager.delete_logs(prefix=[run.run_id])
                    instance.delete_run(run.run_id)
                else:
                    cursor = run.run_id
            if len(records) < BATCH_RUNS:
                break
    evaluations = purge_evaluations(instance, keys, border, dry_run=dry_run)
    return {"runs": deleted, "check evaluations": evaluations}


def build_maintenance(specs: Sequence[SyncSpec], settings: Settings) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """Build the job that deletes old data, and its schedule."""

    @dg.op(
        description="Deletes rows and runs older than QUPER_RETENTION_DAYS, SYNC_LOG_RETENTION_DAYS and "
        "DAGSTER_RUN_RETENTION_DAYS."
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
        tags=run_tags(settings),
        description="Deletes old rows of history tables, quper.sync_logs, quper.skipped_rows, and old runs.",
    )
    def maintenance() -> None:
        purge()

    schedule = dg.ScheduleDefinition(
        name=f"{MAINTENANCE_NAME}_schedule",
        job=maintenance,
        cron_schedule="40 3 * * *",
        execution_timezone=settings.sync_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Deletes old rows and runs, once a night.",
    )
    return maintenance, schedule
