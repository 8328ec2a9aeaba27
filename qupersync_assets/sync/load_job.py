"""What a sync does for one job: the asset of the job calls it, and the command line without a Dagster instance."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from qupersync_assets.core.retries import Attempt, attempt
from qupersync_assets.postgres import sync_logs
from qupersync_assets.postgres.cluster_connections import ConnectionGate
from qupersync_assets.postgres.loader import LoadResult, TableState, load, table_state
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.redshift.databases import DatabasesSource
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.redshift.source import RedshiftSource
from qupersync_assets.rows.source_read import NoSource, PartedSource, SyncSource
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.checks import CheckResult, check_results
from qupersync_assets.sync.job_choice import jobs_by_cluster, why_off


@dataclass(frozen=True)
class SyncRequest:
    """One attempt to load a job of a cluster."""

    spec: SyncSpec
    cluster: str
    source: SyncSource | PartedSource
    attempt: Attempt
    lookback: timedelta
    max_skipped_ratio: float  # above it, the check of skipped rows has an error
    full_refresh: bool = False  # read everything that Redshift holds


@dataclass(frozen=True)
class SyncOutcome:
    """What the load did, the state of the table afterwards, and the results of the checks."""

    result: LoadResult
    state: TableState
    checks: Sequence[CheckResult]


def sync_request(
    settings: Settings, redshift: RedshiftResource, spec: SyncSpec, cluster: str, *, number: int, full_refresh: bool
) -> SyncRequest:
    """Build the request of the attempt `number`, from 1 on; a job that is off in the cluster has no source."""
    source: SyncSource | PartedSource = NoSource(why_off(spec, cluster))
    if spec in jobs_by_cluster(settings)[cluster]:
        source = RedshiftSource(
            redshift, spec, settings.sync_batch_size, settings.sync_query_text, settings.sync_include_self
        )
        source = DatabasesSource(source) if spec.database_column else source
    return SyncRequest(
        *(spec, cluster, source, attempt(number, settings.sync_max_retries, settings.sync_retry_delay)),
        *(timedelta(seconds=settings.sync_lookback), settings.sync_max_skipped_ratio, full_refresh),
    )


def redshift_resource(settings: Settings, postgres: PostgresResource, cluster: str, run_id: str) -> RedshiftResource:
    """Build the connections of a run to a cluster; a login that fails counts for all jobs of the cluster."""
    # The longest delays before the retries of a step: shorter outages are retried by each job.
    patience = max(60.0, settings.sync_retry_delay * (2**settings.sync_max_retries - 1))
    return RedshiftResource(settings.by_cluster()[cluster], ConnectionGate(postgres, cluster, run_id, patience))


def load_job(postgres: PostgresResource, request: SyncRequest, run_id: str, log: logging.Logger) -> SyncOutcome:
    """Load a job into its table, with its row in quper.sync_logs, and check what was loaded.

    Raises:
        SyncError: as for `loader.load`. TRANSIENT: the next attempt may succeed, if it is not the last.
    """
    spec, cluster = request.spec, request.cluster
    result = load(
        *(postgres, spec, cluster, run_id, request.source, log, request.lookback, request.full_refresh),
        attempt=request.attempt,
    )
    with postgres.transaction() as connection:
        state = table_state(connection, spec, cluster)
        checks = list(check_results(spec, result, state, request.max_skipped_ratio))
        failed = {c.name: {"status": c.status, "text": c.logged or c.text} for c in checks if not c.passed}
        sync_logs.record_checks(connection, cluster, spec.sync_job_id, run_id, failed)
    return SyncOutcome(result, state, checks)
