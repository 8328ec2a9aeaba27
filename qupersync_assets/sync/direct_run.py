"""A run without Dagster: loads jobs of a cluster one after the other, with the retries that a run in Dagster has."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.postgres import sync_logs
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.load_job import load_job, redshift_resource, sync_request


def run_jobs(
    settings: Settings,
    postgres: PostgresResource,
    cluster: str,
    specs: Sequence[SyncSpec],
    run_id: str,
    log: logging.Logger,
    *,
    full_refresh: bool,
) -> None:
    """Load the jobs; each gets its row in quper.sync_logs, also one that fails. A job that waits for its next attempt
    lets the others pass.

    Raises:
        SyncError: PostgreSQL cannot be reached, so that rows of failed jobs stay as they are.
    """
    started = time.time()
    errors: dict[str, str] = {}
    # Time of the next attempt, its number, and the job.
    waiting = [(0.0, 1, spec) for spec in specs]
    redshift = redshift_resource(settings, postgres, cluster, run_id)
    try:
        while waiting:
            next_one = min(waiting, key=lambda entry: entry[0])
            waiting.remove(next_one)
            at, number, spec = next_one
            time.sleep(max(0.0, at - time.monotonic()))
            request = sync_request(settings, redshift, spec, cluster, number=number, full_refresh=full_refresh)
            try:
                load_job(postgres, request, run_id, log)
            except SyncError as error:
                reason = redact(str(error))
                if error.error_class is ErrorClass.TRANSIENT and not request.attempt.is_last:
                    log.warning("%s: %s", spec.sync_job_id, request.attempt.failure(reason))
                    waiting.append((time.monotonic() + request.attempt.delay, number + 1, spec))
                else:
                    errors[spec.sync_job_id] = reason
            except Exception as error:  # one job that fails changes nothing for the others
                errors[spec.sync_job_id] = redact(f"{type(error).__name__}: {error}")
    finally:
        redshift.dispose()
    close_jobs(postgres, cluster, run_id, errors, SyncStatus.FAILED, started)


def close_jobs(
    postgres: PostgresResource, cluster: str, run_id: str, errors: dict[str, str], status: SyncStatus, started: float
) -> None:
    """Close, or add, the rows of jobs that did not close theirs; `errors` has the reason of each job."""
    if errors:
        with postgres.transaction() as connection:
            sync_logs.close_run(connection, cluster, run_id, errors, status, started, time.time())


def stop_jobs(
    postgres: PostgresResource, cluster: str, run_id: str, specs: Sequence[SyncSpec], reason: str, started: float
) -> None:
    """Close, or add, the rows of a run that a person stops; PostgreSQL may be the reason why it hangs."""
    with suppress(SyncError):
        errors = dict.fromkeys((spec.sync_job_id for spec in specs), reason)
        close_jobs(postgres, cluster, run_id, errors, SyncStatus.CANCELED, started)
