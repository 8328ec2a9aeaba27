"""The job that deletes old rows and old Dagster runs every night, in small batches."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from qupersync_assets.core.redaction import redact_exceptions
from qupersync_assets.defs.dagster_internals import purge_evaluations
from qupersync_assets.defs.executors import IN_PROCESS, run_tags
from qupersync_assets.defs.names import (
    ASSET_JOB,
    HEALTH_KEY,
    HEALTH_NAME,
    JOB_NAME,
    POSTGRES_KEY,
    STANDALONE,
    Placement,
    asset_key,
    target_tag,
)
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.purge import purge_target

MAINTENANCE_NAME = STANDALONE.maintenance_job
BATCH_RUNS = 50

# The newest runs of each job stay, so that the UI always shows the last state of each asset.
KEPT_RUNS = 100


def purge_runs(
    instance: dg.DagsterInstance, specs: Sequence[SyncSpec], days: float, *, dry_run: bool = False
) -> dict[str, int]:
    """Delete finished sync runs older than `days`, with their events, and evaluations of checks as old, or only
    count them; return their numbers. The newest KEPT_RUNS runs of each job stay, and runs of other assets."""
    keys = {HEALTH_KEY, *(asset_key(spec) for spec in specs)}
    border = datetime.now(UTC) - timedelta(days=days)
    deleted = 0
    for job_name in (JOB_NAME, *(spec.sync_job_id for spec in specs), HEALTH_NAME, MAINTENANCE_NAME, ASSET_JOB):
        newest = instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=KEPT_RUNS)
        kept = {record.dagster_run.run_id for record in newest}
        cursor = None
        while True:
            filters = dg.RunsFilter(job_name=job_name, created_before=border)
            records = instance.get_run_records(filters, limit=BATCH_RUNS, cursor=cursor)
            for record in records:
                run = record.dagster_run
                is_own = job_name != ASSET_JOB or (run.asset_selection or set()) & keys
                is_old = bool(run.is_finished and run.run_id not in kept and is_own)
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


def purge_data(
    postgres: PostgresResource | None,
    instance: dg.DagsterInstance | None,
    specs: Sequence[SyncSpec],
    *,
    log_days: float,
    history_days: float | None,
    daily_days: float | None,
    run_days: float,
    dry_run: bool = False,
) -> list[tuple[str, float, int]]:
    """Delete what is older than the given days in a target and in an instance, or only count it; return each kind
    with its days and its number: see `purge_target` and `purge_runs`."""
    counts = []
    if postgres:
        counts = purge_target(
            *(postgres, specs), log_days=log_days, history_days=history_days, daily_days=daily_days, dry_run=dry_run
        )
    if instance:
        runs = purge_runs(instance, specs, run_days, dry_run=dry_run)
        counts += [(kind, run_days, number) for kind, number in runs.items()]
    return counts


def build_maintenance(
    specs: Sequence[SyncSpec], settings: Settings, placement: Placement
) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """Build the job that deletes old data, and its schedule. In an instance of others Dagster's runs stay."""
    postgres_key = placement.resource(POSTGRES_KEY)

    @dg.op(
        name="purge" if placement.standalone else f"{placement.name}_purge",
        config_schema={},
        required_resource_keys={postgres_key},
        description="Deletes rows and runs that are older than QUPER_RETENTION_DAYS, QUPER_DAILY_RETENTION_DAYS, "
        "SYNC_LOG_RETENTION_DAYS and DAGSTER_RUN_RETENTION_DAYS.",
    )
    def purge(context: dg.OpExecutionContext) -> None:
        postgres: PostgresResource = getattr(context.resources, postgres_key)
        with redact_exceptions():
            ensure_schema(postgres)
            deleted = purge_data(
                postgres,
                context.instance if placement.standalone else None,
                specs,
                log_days=settings.sync_log_retention_days,
                history_days=settings.quper_retention_days,
                daily_days=settings.quper_daily_retention_days,
                run_days=settings.dagster_run_retention_days,
            )
        context.log.info("Deleted: " + ", ".join(f"{number} {kind}" for kind, _, number in deleted))
        context.add_output_metadata({f"deleted {kind}": number for kind, _, number in deleted})

    @dg.job(
        name=placement.maintenance_job,
        executor_def=IN_PROCESS,
        tags={**target_tag(settings), **run_tags(settings)},
        description="Deletes old rows of history tables, removed rows of snapshot tables, old rows of "
        "quper.sync_logs and quper.skipped_rows" + (", and old runs." if placement.standalone else "."),
    )
    def maintenance() -> None:
        purge()

    schedule = dg.ScheduleDefinition(
        name=f"{placement.maintenance_job}_schedule",
        job=maintenance,
        cron_schedule="40 3 * * *",
        execution_timezone=settings.sync_timezone,
        default_status=placement.schedule_status,
        description="Deletes old rows, once a night.",
    )
    return maintenance, schedule
