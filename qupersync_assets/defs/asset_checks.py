"""The checks of an asset, from what its feed has told: they never make a run red by themselves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from sqlalchemy import RowMapping

from qupersync_assets.defs.partitions import partitions_of
from qupersync_assets.redshift.privileges import grant_all_rows
from qupersync_assets.rows.source_read import Feed, Source
from qupersync_assets.settings import Settings
from qupersync_assets.spec.redshift_views import shows_own_rows
from qupersync_assets.spec.sync_spec import RETENTION, SyncSpec

SKIPPED = "no_skipped_rows"
SCHEMA = "source_schema"
ALL_ROWS = "sees_all_rows"
GAP = "no_gap"
RUN_NUMBERS = ("ms", "read", "new", "changed", "skipped")


def check_specs(key: dg.AssetKey, spec: SyncSpec, settings: Settings) -> list[dg.AssetCheckSpec]:
    """The checks of a job's asset; of several clusters, each has its own results."""
    described = {
        SKIPPED: "Every row that Redshift gave was loaded. The others are in quper.skipped_rows; "
        f"above a share of {settings.sync_max_skipped_ratio:g} this is an error.",
        SCHEMA: "The cluster has a source for this table, with the documented columns.",
    }
    if shows_own_rows(spec.all_sources):
        described[ALL_ROWS] = "Redshift shows us everybody's rows, and not only those of our own user's work."
    if spec.kind == "history":
        described[GAP] = f"The last success is not older than what Redshift holds: {RETENTION.days} days."
    with warnings.catch_warnings():
        # Without partitions, a preview in Dagster, one cluster's result takes the place of another's.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(name, asset=key, description=text, partitions_def=partitions_of(settings))
            for name, text in described.items()
        ]


def check_results(feed: Feed, max_skipped_ratio: float) -> Iterator[dg.AssetCheckResult]:
    """The results of a feed that has been loaded, one for each of `check_specs`."""
    yield _skipped_rows(feed, max_skipped_ratio)
    yield _source_schema(feed)
    if shows_own_rows(feed.spec.all_sources):
        yield _all_rows(feed.source)
    if feed.spec.kind == "history":
        yield _gap(feed.gap)


def _skipped_rows(feed: Feed, max_ratio: float) -> dg.AssetCheckResult:
    """Passes without skipped rows; else warns, or is an error above `max_ratio` of the extracted rows."""
    counts = feed.counts
    share = counts.skipped / counts.extracted if counts.extracted else 0.0
    reasons = "\n".join(f"- `{bad.column or '?'}`: {bad.reason}" for bad in feed.samples)
    metadata: dict[str, Any] = {
        "rows_skipped": counts.skipped,
        "skipped_share": share,
        "last_runs": _runs(feed.last_runs),
    }
    if reasons:
        metadata["samples"] = dg.MetadataValue.md(reasons)
    return dg.AssetCheckResult(
        check_name=SKIPPED,
        passed=counts.skipped == 0,
        severity=dg.AssetCheckSeverity.ERROR if share > max_ratio else dg.AssetCheckSeverity.WARN,
        description=f"{counts.skipped} of {counts.extracted} rows skipped ({share:.2%})",
        metadata=metadata,
    )


def _runs(logs: Sequence[RowMapping]) -> dg.TableMetadataValue:
    """Rows of quper.sync_logs as a table that fits a page."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "start (UTC)": log["started_at"].astimezone(UTC).strftime("%m-%d %H:%M:%S"),
                    "status": log["status"],
                    "ms": log["duration_ms"] or 0,
                    "read": log["rows_extracted"],
                    "new": log["rows_inserted"],
                    "changed": log["rows_updated"],
                    "skipped": log["rows_skipped"],
                    "run": log["run_id"][:8],
                }
            )
            for log in logs
        ],
        dg.TableSchema(
            [
                dg.TableColumn(name, type="int" if name in RUN_NUMBERS else "string")
                for name in ("start (UTC)", "status", *RUN_NUMBERS, "run")
            ]
        ),
    )


def _source_schema(feed: Feed) -> dg.AssetCheckResult:
    """Warns if there is no source, if it lacks columns, which then are NULL, or has new ones."""
    source = feed.source
    if source.unavailable:
        text = source.unavailable
    elif feed.skipped:
        text = f"Nothing was read: {feed.skipped}."
    else:
        text = f"Read from {source.name}."
        if source.passed_over:
            text += f" Not from what comes first: {'; '.join(source.passed_over)}."
        if source.missing:
            text += f" NULL, because this cluster lacks them: {', '.join(source.missing)}."
        if source.ignored:
            text += f" New, and not read: {', '.join(source.ignored)}."
    return dg.AssetCheckResult(
        check_name=SCHEMA,
        passed=not (source.unavailable or source.missing or source.ignored),
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={
            "source": feed.source_name,
            "columns_missing": len(source.missing),
            "columns_ignored": len(source.ignored),
        },
    )


def _all_rows(source: Source) -> dg.AssetCheckResult:
    """Warns if Redshift shows us only the rows of our own work, which it never says by itself."""
    views = shows_own_rows(source.variant.sources) if source.variant else []
    rights = source.rights
    if source.variant is None:
        passed, text = True, "Nothing was read."
    elif not views or rights is None:
        passed, text = True, f"Everybody who may read {source.name} sees all of its rows."
    elif rights.sees_all_rows:
        passed, text = True, f"{rights.user} ({rights}) sees all rows of {', '.join(views)}."
    else:
        passed = False
        text = (
            f"{rights.user} sees only the rows of its own work in {', '.join(views)}. "
            f"As a superuser of that cluster: {grant_all_rows(rights.user)}"
        )
    return dg.AssetCheckResult(
        check_name=ALL_ROWS, passed=passed, severity=dg.AssetCheckSeverity.WARN, description=text
    )


def _gap(gap: tuple[datetime, datetime] | None) -> dg.AssetCheckResult:
    """Warns in the first load after a pause that was too long; quper.sync_logs keeps the gap."""
    text = "Nothing was lost."
    if gap:
        first, last = (time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") for time in gap)
        text = (
            f"Rows from {first} to {last} are missing for good: Redshift had dropped them before this load."
        )
    return dg.AssetCheckResult(
        check_name=GAP,
        passed=gap is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"gap_seconds": round((gap[1] - gap[0]).total_seconds()) if gap else 0},
    )
