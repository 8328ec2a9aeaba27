"""The checks of an asset, from the result of its load. A failed check never fails the run: see `check_results`."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any

import dagster as dg
from sqlalchemy import RowMapping

from qupersync_assets.defs.partitions import partitions_of
from qupersync_assets.postgres.loader import LoadResult, TableState
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.rows.source_read import SourceRead
from qupersync_assets.settings import Settings
from qupersync_assets.spec import RETENTION, SyncSpec
from qupersync_assets.spec.redshift_views import shows_own_rows

SKIPPED = "no_skipped_rows"
SCHEMA = "source_schema"
ALL_ROWS = "sees_all_rows"
GAP = "no_gap"
DATABASES = "reads_all_databases"
REMOVED = "finds_removed_rows"
# Syncs in a row that may leave undecided whether rows still exist.
MAX_UNDECIDED = 3
# Heading of a number of the last runs -> column of quper.sync_logs.
RUN_NUMBERS = {
    "ms": "duration_ms",
    "read": "rows_extracted",
    "new": "rows_inserted",
    "changed": "rows_updated",
    "skipped": "rows_skipped",
}


def check_specs(key: dg.AssetKey, spec: SyncSpec, settings: Settings) -> list[dg.AssetCheckSpec]:
    """Return the checks of a job's asset; with several clusters, each cluster has its own results."""
    described = {
        SKIPPED: "All rows read from Redshift were loaded. Skipped rows are in quper.skipped_rows: an error "
        f"above {100 * settings.sync_max_skipped_ratio:g} %, else a warning.",
        SCHEMA: "The cluster has a source for this table, with all documented columns and no others.",
    }
    if shows_own_rows(spec.all_sources):
        described[ALL_ROWS] = "Redshift shows the rows of all users, not only those of the login user."
    if spec.kind == "history":
        described[GAP] = (
            f"No data was missed: the last successful sync and its newest rows are of the last {RETENTION.days} days, "
            "or Redshift kept all rows since then."
        )
    else:
        described[REMOVED] = "The syncs know which rows of the table the source still has."
    if spec.database_column:
        described[DATABASES] = "Each database of REDSHIFT_DATABASES exists and could be read."
    with warnings.catch_warnings():
        # A preview feature of Dagster; without it the result of one cluster replaces that of another.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(name, asset=key, description=text, partitions_def=partitions_of(settings))
            for name, text in described.items()
        ]


def check_results(
    spec: SyncSpec, result: LoadResult, state: TableState, max_skipped_ratio: float
) -> Iterator[dg.AssetCheckResult]:
    """Yield one result for each of `check_specs`."""
    yield _skipped_rows(result, state, max_skipped_ratio)
    yield _source_schema(result)
    if shows_own_rows(spec.all_sources):
        yield _all_rows(result.read)
    if spec.kind == "history":
        yield _gap(result)
    else:
        yield _removed_rows(result, state)
    if spec.database_column:
        yield _databases(result)


def _skipped_rows(result: LoadResult, state: TableState, max_ratio: float) -> dg.AssetCheckResult:
    """Pass without skipped rows; else warn, or report an error above `max_ratio` of the extracted rows."""
    counts = result.counts
    share = counts.skipped / counts.extracted if counts.extracted else 0.0
    found = list(dict.fromkeys(f"{row.column or '?'}: {row.reason}" for row in result.samples))
    text = f"{counts.skipped} of {counts.extracted} rows skipped ({share:.2%})"
    if counts.skipped:
        text += f": {'; '.join(found[:2])}{' ...' if len(found) > 2 else ''}. They are in quper.skipped_rows."
    reasons = "\n".join(f"- `{row.column or '?'}`: {row.reason}" for row in result.samples)
    metadata: dict[str, Any] = {
        "rows_skipped": counts.skipped,
        "skipped_share": share,
        "last_runs": _runs(state.last_runs),
    }
    if reasons:
        metadata["samples"] = dg.MetadataValue.md(reasons)
    return dg.AssetCheckResult(
        check_name=SKIPPED,
        passed=counts.skipped == 0,
        severity=dg.AssetCheckSeverity.ERROR if share > max_ratio else dg.AssetCheckSeverity.WARN,
        description=text,
        metadata=metadata,
    )


def _runs(logs: Sequence[RowMapping]) -> dg.TableMetadataValue:
    """Return rows of quper.sync_logs as a table that fits the page."""
    records = [
        dg.TableRecord(
            {
                "start (UTC)": log["started_at"].astimezone(UTC).strftime("%m-%d %H:%M:%S"),
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


def _source_schema(result: LoadResult) -> dg.AssetCheckResult:
    """Warn if the cluster has no source, or if the source lacks columns or has new ones."""
    read = result.read
    missing = read.missing_columns if read else ()
    new = read.new_columns if read else ()
    if result.status is SyncStatus.SKIPPED:
        text = f"Nothing was read: {result.reason}."
    elif read is None:
        text = result.reason
    else:
        text = f"Read from {read.name}."
        if read.passed_over:
            text += f" Preferred sources are not available: {'; '.join(read.passed_over)}."
        if missing:
            text += f" NULL, because this cluster lacks them: {', '.join(missing)}."
        if new:
            text += f" New columns, not read: {', '.join(new)}."
    is_read = result.status is not SyncStatus.UNAVAILABLE or result.is_off
    passed = is_read and not missing and not new
    metadata = {"source": result.source_name, "columns_missing": len(missing), "columns_ignored": len(new)}
    return _warning(SCHEMA, passed, text, metadata)


def _all_rows(read: SourceRead | None) -> dg.AssetCheckResult:
    """Warn if Redshift shows the user only the rows of its own work, which it does without an error."""
    if read is None:
        return _warning(ALL_ROWS, True, "Nothing was read.")
    visibility = read.visibility
    empty = f" Nothing was read: {read.why_empty}." if read.why_empty else ""
    if visibility is None:
        return _warning(ALL_ROWS, True, f"Every user who may read {read.name} sees all of its rows.{empty}")
    user, views = visibility.user, ", ".join(visibility.own_rows_views)
    if visibility.sees_all_rows:
        return _warning(ALL_ROWS, True, f"{user} ({visibility.privileges}) sees all rows of {views}.{empty}")
    text = f"{user} sees only the rows of its own work in {views}. As a superuser of that cluster: {visibility.grant}"
    return _warning(ALL_ROWS, False, text + empty)


def _gap(result: LoadResult) -> dg.AssetCheckResult:
    """Warn in the first load after a pause that was too long; quper.sync_logs keeps the gap."""
    text = "No rows were lost."
    if result.gap:
        first, last = (time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") for time in result.gap)
        text = f"Rows from {first} to {last} are lost: Redshift had deleted them before this load."
    return _warning(GAP, result.gap is None, text, {"gap_seconds": result.gap_seconds})


def _removed_rows(result: LoadResult, state: TableState) -> dg.AssetCheckResult:
    """Warn if several syncs in a row did not know whether rows still exist; such rows are not marked as removed."""
    loads = [log for log in state.last_runs if log["status"] in (SyncStatus.SUCCESS, SyncStatus.PARTIAL)]
    newest = [log["rows_undecided"] for log in loads[:MAX_UNDECIDED]]
    text = f"{result.counts.undecided} rows may have been removed from the source, or not."
    passed = len(newest) < MAX_UNDECIDED or not all(newest)
    if not passed:
        text = (
            f"In the last {MAX_UNDECIDED} syncs it was not known whether {newest[0]} rows still exist, so they have no "
            "removed_at. Redshift gave no rows, or rows with an invalid key, which are in quper.skipped_rows; or the "
            "connection to PostgreSQL was lost."
        )
    return _warning(REMOVED, passed, text, {"rows_undecided": result.counts.undecided})


def _databases(result: LoadResult) -> dg.AssetCheckResult:
    """Report an error for databases that could not be read: their rows are as old as their last load."""
    loaded = f"Loaded: {', '.join(result.databases)}." if result.databases else "Nothing was read."
    failed = [f"Not loaded: {failure.name}: {failure.reason}" for failure in result.failures]
    return dg.AssetCheckResult(
        check_name=DATABASES,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=" ".join([loaded, *failed]),
        metadata={"databases_failed": len(failed)},
    )


def _warning(name: str, passed: bool, text: str, metadata: Mapping[str, Any] | None = None) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name, passed=passed, severity=dg.AssetCheckSeverity.WARN, description=text, metadata=metadata
    )
