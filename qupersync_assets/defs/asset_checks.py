"""The checks of an asset: their specs, and their results as events of Dagster."""

import warnings
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import dagster as dg
from sqlalchemy import RowMapping

from qupersync_assets.defs.partitions import partitions_of
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.checks import SKIPPED, CheckResult, check_descriptions
from qupersync_assets.sync.load_job import SyncOutcome

# Heading of a number of the last runs -> column of quper.sync_logs.
RUN_NUMBERS = {
    "ms": "duration_ms",
    "extracted": "rows_extracted",
    "inserted": "rows_inserted",
    "updated": "rows_updated",
    "skipped": "rows_skipped",
}


def check_specs(key: dg.AssetKey, spec: SyncSpec, settings: Settings) -> list[dg.AssetCheckSpec]:
    """Return the checks of a job's asset; with several clusters, each cluster has its own results."""
    with warnings.catch_warnings():
        # A preview feature of Dagster; without it the result of one cluster replaces that of another.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(name, asset=key, description=text, partitions_def=partitions_of(settings))
            for name, text in check_descriptions(spec, settings.sync_max_skipped_ratio).items()
        ]


def asset_check_results(outcome: SyncOutcome) -> list[dg.AssetCheckResult]:
    """Return the result of each of `check_specs` after a load."""
    return [_result(check, outcome) for check in outcome.checks]


def _result(check: CheckResult, outcome: SyncOutcome) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = dict(check.facts)
    if check.name == SKIPPED:
        metadata["last_runs"] = _runs(outcome.state.last_runs)
        samples = outcome.result.samples
        if reasons := "\n".join(f"- `{row.column or '?'}`: {row.reason}" for row in samples):
            metadata["samples"] = dg.MetadataValue.md(reasons)
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=check.passed,
        severity=dg.AssetCheckSeverity.ERROR if check.is_error else dg.AssetCheckSeverity.WARN,
        description=check.text,
        metadata=metadata,
    )


def _runs(logs: Sequence[RowMapping]) -> dg.TableMetadataValue:
    """Return rows of quper.sync_logs as a table that fits the page."""
    records = [
        dg.TableRecord(
            {
                "start (UTC)": log["started_at"].astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
                "status": log["status"],
                **{heading: log[column] or 0 for heading, column in RUN_NUMBERS.items()},
                "run": log["run_id"][:8],
            }
        )
        for log in logs
    ]
    headings = ("start (UTC)", "status", *RUN_NUMBERS, "run")
    columns = [dg.TableColumn(name, type="int" if name in RUN_NUMBERS else "string") for name in headings]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))
