"""Writes what the documentation has from the code: docs/settings.md, docs/tables.md, tables in others.

Run by `make docs`; a test compares what is there with what it would write."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from qupersync_assets.postgres.skipped_rows import SKIPPED_ROWS
from qupersync_assets.postgres.sync_logs import SYNC_LOGS
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.spec.redshift_views import documentation_url
from qupersync_assets.sync_jobs import all_specs

PROJECT = Path(__file__).parents[1]
NOTE = "<!-- Written by `make docs`; changes belong in {}. -->"


def pages() -> dict[Path, str]:
    """What each file that is generated, or has a generated part, should hold."""
    return {
        PROJECT / "docs/settings.md": "\n".join(_settings()) + "\n",
        PROJECT / "docs/tables.md": "\n".join(_tables()) + "\n",
        PROJECT / "README.md": _with_part("README.md", "sync jobs", _jobs()),
        PROJECT / "docs/redshift.md": _with_part("docs/redshift.md", "variants", _variants()),
    }


def _with_part(name: str, part: str, text: str) -> str:
    """A file's text, with this one between the two comments that name the part."""
    pattern = rf"(<!-- {part}: written by `make docs` -->\n).*?(<!-- end of {part} -->)"
    whole, count = re.subn(
        pattern,
        lambda found: f"{found[1]}{text}\n{found[2]}",
        (PROJECT / name).read_text("utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{name} has {count} places for the {part}")
    return whole


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_plain, row))} |" for row in cells)


def _plain(cell: str) -> str:
    """A cell without what Markdown would take for the end of it, or for a tag."""
    return cell.replace("|", "\\|").replace("<", "&lt;")


def _settings() -> Iterator[str]:
    """One table for each section of .env.example, in its order."""
    yield "# Settings\n"
    yield NOTE.format("qupersync_assets/settings/__init__.py and .env.example") + "\n"
    yield (
        "QuperSync reads environment variables, once, when it is loaded; `make up` and `qupersync` also "
        "read the file `.env` of their folder, for which [.env.example](../.env.example) is the model. An"
        " empty variable counts as not set. All faults are told at once, each with its variable, what is "
        "allowed and what it is for. Secrets are never shown. Which variables of Redshift are needed "
        "depends on how one logs in: [operations.md](operations.md#logging-in-to-redshift)."
    )
    example = (PROJECT / ".env.example").read_text("utf-8")
    schema = Settings.model_json_schema()["properties"]
    title = ""
    rows: list[list[str]] = []
    for line in example.splitlines():
        if line.startswith("# --- "):
            yield from _section(title, rows)
            title, rows = line.removeprefix("# --- "), []
        elif found := re.match(r"(#?)([A-Z][A-Z0-9_]*)=(.*)", line):
            rows.append(_setting(found[2], schema[found[2].lower()]))
    yield from _section(title, rows)


def _section(title: str, rows: list[list[str]]) -> Iterator[str]:
    if rows:
        yield f"\n## {title.rstrip('.')}\n"
        yield _table(["variable", "default", "allowed", "what it is"], rows)


def _setting(variable: str, schema: dict[str, Any]) -> list[str]:
    default = schema.get("default")
    if "default" not in schema:
        shown = "**required**"
    else:
        shown = (
            "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        )
    return [f"`{variable}`", shown, _allowed(schema), schema.get("description", "")]


def _allowed(schema: dict[str, Any]) -> str:
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    kind = {**schema, **kinds[0]}
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    if kind.get("type") == "boolean":
        return "`true`, `false`"
    if kind.get("type") in ("integer", "number"):
        low, high = kind.get("minimum"), kind.get("maximum")
        if low is None and high is None:
            return "a number"
        return f"{low:,} to {high:,}" if high is not None else f"{low:,} or more"
    if kind.get("format") == "password":
        return "text"
    return "a file" if kind.get("format") == "path" else "text"


def _jobs() -> str:
    rows = []
    for spec in all_specs():
        sources = ", else ".join(variant.name for variant in spec.variants)
        key = ", ".join(c.name for c in spec.key if c.name != "cluster")
        anchor = f"docs/tables.md#quper{spec.table.name}"
        rows.append([spec.sync_job_id, f"[{spec.table.fullname}]({anchor})", spec.kind, sources, key])
    headings = ["sync_job_id", "table", "kept as", "source in Redshift, the first that can be read"]
    return _table([*headings, "key, after `cluster`"], rows)


def _variants() -> str:
    """What each job reads on which clusters, and what it cannot know then."""
    rows = []
    for spec in all_specs():
        for number, variant in enumerate(spec.variants):
            unknown = ", ".join(c.name for c in spec.columns if c.name not in variant.expressions)
            rows.append(["" if number else spec.sync_job_id, variant.name, unknown])
    return _table(["job", "reads, the first that it can", "NULL then"], rows)


def _tables() -> Iterator[str]:
    """The tables of the schema quper, one section each."""
    yield "# Tables\n"
    yield NOTE.format("qupersync_assets/sync_jobs/ and the two tables' own modules") + "\n"
    yield (
        "All of them are in the schema `quper`, and PostgreSQL's comments on them say the same. Times are"
        " UTC. The key is in **bold**. A column is read from those of Redshift's views that stand beside "
        "it, of the first view that a cluster has and lets us read; [redshift.md](redshift.md) says what "
        "the others cannot tell. The Dagster UI has the same, with links, in the columns of each asset."
    )
    for spec in all_specs():
        yield from _target(spec)
    for table in (SYNC_LOGS, SKIPPED_ROWS):
        yield f"\n## {table.fullname}\n"
        yield f"{table.comment}\n"
        yield _columns(table, {})


def _target(spec: SyncSpec) -> Iterator[str]:
    yield f"\n## {spec.table.fullname}\n"
    yield f"{spec.description} {spec.table.comment}\n"
    views = ", else ".join(
        " with ".join(f"[{view}]({documentation_url(view)})" for view in variant.sources)
        for variant in spec.variants
    )
    kept = (
        "a history"
        if spec.kind == "history"
        else f"a snapshot; `{spec.table.fullname}_current` has what is there"
    )
    yield f"Job `{spec.sync_job_id}`, from {views}; {kept}.\n"
    reads: dict[str, list[str]] = defaultdict(list)
    for target, view, column in spec.lineage():
        reads[target].append(f"`{view}.{column}`")
    yield _columns(spec.table, reads)


def _columns(table: sa.Table, reads: Mapping[str, list[str]]) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    rows = []
    for column in table.c:
        name = f"**{column.name}**" if column.primary_key else column.name
        type_ = column.type.compile(dialect).lower().replace("timestamp with time zone", "timestamptz")
        row = [name, type_ if column.nullable else f"{type_} not null", column.comment or ""]
        rows.append([*row, ", ".join(reads[column.name])] if reads else row)
    headings = ["column", "type", "what it is"]
    return _table([*headings, "read from"] if reads else headings, rows)


def main() -> None:
    """Write them all."""
    for path, text in pages().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
