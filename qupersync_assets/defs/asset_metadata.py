"""Descriptions, columns, lineage and links of the assets, for the Dagster UI."""

import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import dagster as dg

from qupersync_assets.defs.names import Placement
from qupersync_assets.postgres.loader import LoadResult
from qupersync_assets.postgres.staging import ddl
from qupersync_assets.settings import Settings
from qupersync_assets.spec import RETENTION, SyncSpec
from qupersync_assets.spec.redshift_views import UNDOCUMENTED, column_types, documentation_url, documented_views
from qupersync_assets.sync_jobs import file_of

PROJECT = Path(__file__).parents[2]


def build_sources(specs: Sequence[SyncSpec], settings: Settings, placement: Placement) -> list[dg.AssetSpec]:
    """Return one external asset for each Redshift view that a job reads."""
    readers: dict[str, list[SyncSpec]] = defaultdict(list)
    for spec in specs:
        for view in spec.all_sources:
            readers[view].append(spec)
    return [
        dg.AssetSpec(
            placement.source_key(view),
            group_name="redshift",
            kinds={"redshift"},
            owners=[settings.asset_owner],
            description="\n".join(_source_lines(view, readers[view], placement)),
            metadata={
                "documentation": dg.MetadataValue.url(documentation_url(view)),
                "dagster/column_schema": _source_columns(view, specs, placement),
            },
        )
        for view in sorted(readers)
    ]


def observations(
    result: LoadResult, partition: str | None, placement: Placement, instance: dg.DagsterInstance
) -> Iterator[dg.AssetObservation]:
    """Yield that each view of a load was read, with the rows of the statement; `partition` is the cluster.

    The first read is reported to the instance as a materialization, too: the UI shows an external asset that has
    observations alone as never materialized.
    """
    if not result.read:
        return
    metadata: dict[str, Any] = {"rows": result.counts.extracted, "source": result.source_name}
    keys = [placement.source_key(view) for view in result.source_name.split(", ")]
    records = instance.get_asset_records(keys)
    known = {r.asset_entry.asset_key for r in records if r.asset_entry.last_materialization_record}
    for key in keys:
        if key not in known:
            instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata, partition=partition))
        yield dg.AssetObservation(key, metadata=metadata, partition=partition)


def description(spec: SyncSpec, settings: Settings, placement: Placement) -> str:
    """Return the description of a target table's asset, in Markdown."""
    sources = ", else ".join(
        " with ".join(_link(placement.source_key(view), view) for view in variant.sources) for variant in spec.variants
    )
    loading = (
        f"incrementally, as a history table: it keeps rows that Redshift deletes after about {RETENTION.days} days."
        if spec.kind == "history"
        else "completely at each sync, as a snapshot table. Rows that disappeared from the source get a "
        f"`removed_at` timestamp; the view `{spec.table.fullname}_current` shows the rows without one."
    )
    lines = [
        f"{spec.description}\n",
        f"{spec.table.comment}\n",
        f"- **Source**: {sources}.",
        f"- **Key**: {', '.join(f'`{c.name}`' for c in spec.key)}.",
        f"- **Loaded**: {loading}",
        f"- **Log**: rows of `{spec.sync_job_id}` in `quper.sync_logs`; rows that could not be loaded are in "
        "`quper.skipped_rows`.",
    ]
    if len(settings.by_cluster()) > 1:
        lines.append("- **Clusters**: each one is a partition; the freshness is that of the cluster synced last.")
    return "\n".join(lines)


def definition_metadata(spec: SyncSpec, settings: Settings, placement: Placement) -> dict[str, Any]:
    """Return the metadata of a target table's asset."""
    lineage = {
        target: [dg.TableColumnDep(placement.source_key(view), column) for view, column in reads]
        for target, reads in _reads(spec).items()
    }
    return {
        "dagster/table_name": spec.table.fullname,
        "dagster/column_schema": _target_columns(spec, placement),
        "dagster/column_lineage": dg.TableColumnLineage(lineage),
        "dagster/code_references": _code(spec, settings),
        "unique_key": ", ".join(c.name for c in spec.key),
    }


def _reads(spec: SyncSpec) -> dict[str, list[tuple[str, str]]]:
    """Return the (view, column) pairs that each target column is read from."""
    reads: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for target, view, column in spec.lineage():
        reads[target].append((view, column))
    return reads


def _target_columns(spec: SyncSpec, placement: Placement) -> dg.TableSchema:
    """Return the columns of a table, each with links to its source columns.

    Only Dagster+ draws the column lineage of the metadata.
    """
    reads = _reads(spec)
    key = {c.name for c in spec.key}
    columns = []
    for c in spec.table.c:
        sources = ((placement.source_key(view), f"{view}.{name}") for view, name in reads[c.name])
        text = _arrow(c.comment or "", "←", sources)
        constraints = dg.TableColumnConstraints(bool(c.nullable), other=["primary key"] if c.name in key else [])
        columns.append(dg.TableColumn(c.name, ddl(c).lower(), text, constraints))
    return dg.TableSchema(columns)


def _source_columns(view: str, specs: Sequence[SyncSpec], placement: Placement) -> dg.TableSchema:
    """Return the columns of a view, each with links to the target columns that are read from it."""
    targets: dict[str, list[tuple[dg.AssetKey, str]]] = defaultdict(list)
    for spec in specs:
        for target, read, column in spec.lineage():
            if read == view:
                targets[column].append((placement.asset_key(spec), f"{spec.table.name}.{target}"))
    columns = column_types(view).items()
    return dg.TableSchema(
        [dg.TableColumn(name, kind, _arrow("", "→", targets[name]) or None) for name, kind in columns]
    )


def _arrow(text: str, arrow: str, ends: Iterable[tuple[dg.AssetKey, str]]) -> str:
    """Return a text with an arrow to or from columns of assets."""
    # The column of the UI is narrow: a zero-width space allows a line break after _ and .
    links = ", ".join(_link(key, re.sub("([_.])", r"\1&#8203;", name)) for key, name in ends)
    return f"{text}  \n{arrow} {links}".strip() if links else text


def _link(key: dg.AssetKey, text: str) -> str:
    return f"[{text}](/assets/{'/'.join(key.path)})"


def _source_lines(view: str, readers: Sequence[SyncSpec], placement: Placement) -> Iterator[str]:
    """Yield the description of a view and its readers, in Markdown."""
    yield f"The system view `{view}` of the Redshift cluster.\n"
    facts = documented_views().get(view)
    if facts is None:
        yield (
            "- AWS does not document this view. QuperSync reads it if the cluster has it, with the columns of "
            f"`{UNDOCUMENTED.get(view, 'another view')}`."
        )
    else:
        where = {
            (True, True): "provisioned clusters and Serverless",
            (True, False): "provisioned clusters only",
            (False, True): "Serverless only",
        }
        yield f"- **Available on**: {where[facts['provisioned'], facts['serverless']]}."
        yield {
            "all": "- **Visibility**: all users see all rows.",
            "superuser": "- **Visibility**: superusers, and users with a grant on this view.",
            "own": "- **Visibility**: ordinary users see only the rows of their own work.",
        }[facts["visibility"]]
    for spec in readers:
        table = _link(placement.asset_key(spec), spec.table.fullname)
        before = [variant.name for variant in takewhile(lambda v: view not in v.sources, spec.variants)]
        yield f"- **Read for** {table}" + (f", if {' and '.join(before)} cannot be read." if before else ".")


def _code(spec: SyncSpec, settings: Settings) -> dg.CodeReferencesMetadataValue:
    """Return the link to a job's file: in the repository of CODE_URL, else on this machine."""
    file = file_of(spec)
    path = file.relative_to(PROJECT).as_posix()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = (
            dg.UrlCodeReference(url=f"{settings.code_url.rstrip('/')}/{path}", label=file.name)
            if settings.code_url
            else dg.LocalFileCodeReference(file_path=str(file), label=file.name)
        )
        return dg.CodeReferencesMetadataValue(code_references=[reference])
