"""What the Dagster UI tells of the assets: descriptions, columns and where they come from, and links."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from qupersync_assets.defs.names import asset_key, source_key
from qupersync_assets.settings import Settings
from qupersync_assets.spec import RETENTION, SyncSpec
from qupersync_assets.spec.redshift_views import (
    UNDOCUMENTED,
    column_types,
    documentation_url,
    documented_views,
)
from qupersync_assets.sync_jobs import file_of

PROJECT = Path(__file__).parents[2]


def build_sources(specs: Sequence[SyncSpec], settings: Settings) -> list[dg.AssetSpec]:
    """One external asset for each Redshift view that the jobs read."""
    readers: dict[str, list[SyncSpec]] = defaultdict(list)
    for spec in specs:
        for view in spec.all_sources:
            readers[view].append(spec)
    return [
        dg.AssetSpec(
            source_key(view),
            group_name="redshift",
            kinds={"redshift"},
            owners=[settings.asset_owner],
            description="\n".join(_source_lines(view, readers[view])),
            metadata={
                "documentation": dg.MetadataValue.url(documentation_url(view)),
                "dagster/column_schema": _source_columns(view, specs),
            },
        )
        for view in sorted(readers)
    ]


def description(spec: SyncSpec, settings: Settings) -> str:
    """What a target table is, how it is kept, and where to look further; in Markdown."""
    sources = ", else ".join(
        " with ".join(_link(source_key(view), view) for view in variant.sources) for variant in spec.variants
    )
    if spec.kind == "history":
        keeps = (
            "as a history: a sync reads what is new. Its rows stay, while Redshift forgets them after about "
            f"{RETENTION.days} days."
        )
    else:
        keeps = (
            "as a snapshot: a sync reads all rows. One that is gone from the source gets its `removed_at`; "
            f"the view `{spec.table.fullname}_current` has those that are there."
        )
    lines = [
        f"{spec.description}\n",
        f"{spec.table.comment}\n",
        f"- **Source**: {sources}.",
        f"- **Key**: {', '.join(f'`{c.name}`' for c in spec.key)}.",
        f"- **Kept**: {keeps}",
        f"- **Runs**: `{spec.sync_job_id}` in `quper.sync_logs`; rows that could not be loaded are in "
        "`quper.skipped_rows`.",
    ]
    if len(settings.by_cluster()) > 1:
        lines.append("- **Clusters**: each is a partition; the freshness is that of the one synced last.")
    return "\n".join(lines)


def definition_metadata(spec: SyncSpec, settings: Settings) -> dict[str, Any]:
    """The metadata of a target table's asset."""
    return {
        "dagster/table_name": spec.table.fullname,
        "dagster/column_schema": _target_columns(spec),
        "dagster/column_lineage": dg.TableColumnLineage(
            {
                target: [dg.TableColumnDep(source_key(view), column) for view, column in reads]
                for target, reads in _reads(spec).items()
            }
        ),
        "dagster/code_references": _code(spec, settings),
        "unique_key": ", ".join(c.name for c in spec.key),
    }


def _reads(spec: SyncSpec) -> dict[str, list[tuple[str, str]]]:
    """(view, column) of the sources of each target column."""
    reads: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for target, view, column in spec.lineage():
        reads[target].append((view, column))
    return reads


def _target_columns(spec: SyncSpec) -> dg.TableSchema:
    """The columns of a table, with links to what each is read from, which only Dagster+ draws."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    reads = _reads(spec)
    key = {c.name for c in spec.key}
    return dg.TableSchema(
        [
            dg.TableColumn(
                c.name,
                type=c.type.compile(dialect).lower(),
                description=_arrow(
                    c.comment or "",
                    "←",
                    ((source_key(view), f"{view}.{name}") for view, name in reads[c.name]),
                ),
                constraints=_constraints(c, key),
            )
            for c in spec.table.c
        ]
    )


def _constraints(column: sa.Column[Any], key: set[str]) -> dg.TableColumnConstraints:
    return dg.TableColumnConstraints(
        nullable=bool(column.nullable), other=["primary key"] if column.name in key else []
    )


def _source_columns(view: str, specs: Sequence[SyncSpec]) -> dg.TableSchema:
    """The columns of a view, with links to what each is read for."""
    targets: dict[str, list[tuple[dg.AssetKey, str]]] = defaultdict(list)
    for spec in specs:
        for target, read, column in spec.lineage():
            if read == view:
                targets[column].append((asset_key(spec), f"{spec.table.name}.{target}"))
    return dg.TableSchema(
        [
            dg.TableColumn(name, type=type_, description=_arrow("", "→", targets[name]) or None)
            for name, type_ in column_types(view).items()
        ]
    )


def _arrow(text: str, arrow: str, ends: Iterable[tuple[dg.AssetKey, str]]) -> str:
    """A text, and an arrow to or from columns of assets."""
    # A column of a table is narrow on screen: names may break after _ and . there.
    links = ", ".join(_link(key, re.sub("([_.])", r"\1&#8203;", name)) for key, name in ends)
    return f"{text}  \n{arrow} {links}".strip() if links else text


def _link(key: dg.AssetKey, text: str) -> str:
    return f"[{text}](/assets/{'/'.join(key.path)})"


def _source_lines(view: str, readers: Sequence[SyncSpec]) -> Iterator[str]:
    """What is known of a view, and who reads it when; in Markdown."""
    yield f"System view {view} of the Redshift cluster. Read, never written.\n"
    facts = documented_views().get(view)
    if facts is None:
        yield (
            f"- AWS does not document it. Clusters that have it show connections in it, with columns of "
            f"{UNDOCUMENTED.get(view, 'another view')}."
        )
    else:
        where = {
            (True, True): "on provisioned clusters and on Serverless",
            (True, False): "on provisioned clusters only",
            (False, True): "on Serverless only",
        }
        yield f"- There {where[facts['provisioned'], facts['serverless']]}."
        yield {
            "all": "- Everybody may read it, with all of its rows.",
            "superuser": "- Only superusers may read it, and who was granted it.",
            "own": "- Everybody may read it, but an ordinary user sees the rows of its own work alone.",
        }[facts["visibility"]]
    for spec in readers:
        table = _link(asset_key(spec), spec.table.fullname)
        before = [v.name for v in spec.variants[: _first_variant(spec, view)]]
        yield f"- Read for {table}" + (f", if {' and '.join(before)} cannot be read." if before else ".")


def _first_variant(spec: SyncSpec, view: str) -> int:
    return next(i for i, variant in enumerate(spec.variants) if view in variant.sources)


def _code(spec: SyncSpec, settings: Settings) -> dg.CodeReferencesMetadataValue:
    """Where a job is written down: in the repository that CODE_URL names, else on this machine."""
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
