"""All uses of Dagster's private interfaces, each without a public equivalent.

unit/defs/test_dagster_internals.py fails when one of them moves or changes its signature.
"""

import multiprocessing.context
import os
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._grpc.impl import core_execute_run
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster._utils.interrupts import capture_interrupts
from dagster_shared.serdes import unpack_value

from qupersync_assets.postgres import retention

NO_COMPUTE_LOGS = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}


# The name under which the standard library finds the context of `use_context`.
_CONTEXT = "qupersync"


def unpack_step(packed: Any) -> Any:
    """Return the step, with `run_id` and `instance_ref`, that a run sends to a Celery worker."""
    return unpack_value(packed)


def open_instance(home: Path, *, captures_output: bool) -> dg.DagsterInstance:
    """Open the instance that home/dagster.yaml configures; without `captures_output`, stdout and stderr of steps
    stay those of this process."""
    overrides = {} if captures_output else {"compute_logs": NO_COMPUTE_LOGS}
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=overrides))


def execute_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Execute a run that a launcher has started, in this process, to its end; the run reports its errors itself."""
    origin: Any = run.job_code_origin
    with capture_interrupts():
        instance.report_engine_event(f"Started process for run (pid: {os.getpid()}).", run)
        for _ in core_execute_run(recon_job_from_origin(origin), run, instance, inject_env_vars=False):
            pass


def use_context(executor: Any, context: Any) -> None:
    """Let a multiprocess executor use a multiprocessing context; its configuration offers new processes only."""
    multiprocessing.context._concrete_contexts[_CONTEXT] = context  # type: ignore[attr-defined]
    executor._start_method = _CONTEXT


def purge_evaluations(
    instance: dg.DagsterInstance, assets: Collection[dg.AssetKey], border: datetime, *, dry_run: bool
) -> int:
    """Delete, or count, evaluations of the checks of assets from before `border`; return the number.

    Dagster deletes a run without the evaluations of its checks. The newest of each check and partition stays.
    """
    table = AssetCheckExecutionsTable
    storage: Any = instance.event_log_storage
    if not hasattr(storage, "index_connection"):
        return 0  # the storage is no SQL database
    newest = sa.select(sa.func.max(table.c.id)).group_by(table.c.asset_key, table.c.check_name, table.c.partition)
    old = (
        (table.c.create_timestamp < border.replace(tzinfo=None))
        & table.c.asset_key.in_([key.to_string() for key in assets])
        & table.c.id.not_in(newest)
    )
    if dry_run:
        with storage.index_connection() as connection:
            count: int = connection.scalar(sa.select(sa.func.count()).select_from(table).where(old))
            return count
    batch = sa.select(table.c.id).where(old).limit(retention.BATCH_ROWS).subquery()
    statement = sa.delete(table).where(table.c.id.in_(sa.select(batch)))
    return retention.delete_in_batches(storage.index_connection, statement)
