"""The checks of an asset, from what its feed has told: they never make a run red by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg

from qupersync_assets.feed import Feed, Source
from qupersync_assets.settings import Settings

SKIPPED = "no_skipped_rows"
SCHEMA = "source_schema"


def check_specs(key: dg.AssetKey, settings: Settings) -> list[dg.AssetCheckSpec]:
    """The checks of the asset with this key."""
    return [
        dg.AssetCheckSpec(
            SKIPPED,
            asset=key,
            description="Every row that Redshift gave was loaded. The others are in quper.skipped_rows; "
            f"above a share of {settings.sync_max_skipped_ratio:g} this is an error.",
        ),
        dg.AssetCheckSpec(
            SCHEMA,
            asset=key,
            description="The cluster has a source for this table, with every column that it is filled from.",
        ),
    ]


def check_results(feed: Feed, max_skipped_ratio: float) -> Iterator[dg.AssetCheckResult]:
    """The results of a feed that has been loaded, one for each of `check_specs`."""
    yield _skipped_rows(feed, max_skipped_ratio)
    yield _source_schema(feed.source)


def _skipped_rows(feed: Feed, max_ratio: float) -> dg.AssetCheckResult:
    """Passes without skipped rows; else warns, or is an error above `max_ratio` of the extracted rows."""
    counts = feed.counts
    share = counts.skipped / counts.extracted if counts.extracted else 0.0
    reasons = "\n".join(f"- `{bad.column or '?'}`: {bad.reason}" for bad in feed.samples)
    metadata: dict[str, Any] = {"rows_skipped": counts.skipped, "skipped_share": share}
    if reasons:
        metadata["samples"] = dg.MetadataValue.md(reasons)
    return dg.AssetCheckResult(
        check_name=SKIPPED,
        passed=counts.skipped == 0,
        severity=dg.AssetCheckSeverity.ERROR if share > max_ratio else dg.AssetCheckSeverity.WARN,
        description=f"{counts.skipped} of {counts.extracted} rows skipped ({share:.2%})",
        metadata=metadata,
    )


def _source_schema(source: Source) -> dg.AssetCheckResult:
    """Warns if there is no source, or if it lacks columns, which then are NULL."""
    if source.unavailable:
        text = source.unavailable
    elif source.missing:
        text = f"Read as NULL, because this cluster lacks them: {', '.join(source.missing)}"
    else:
        text = f"Read from {source.name}."
        if source.passed_over:
            text += f" Not from what comes first: {'; '.join(source.passed_over)}."
    return dg.AssetCheckResult(
        check_name=SCHEMA,
        passed=not source.unavailable and not source.missing,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"source": source.name or "unavailable", "columns_missing": len(source.missing)},
    )
