"""Writes the generated documentation: .env.example, the settings, the tables, parts of other pages, and dashboards.

Run by `make docs`; a test compares the files with the generated text.
"""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from sqlalchemy.dialects import postgresql

from qupersync_assets.health import groups
from qupersync_assets.postgres.cluster_connections import CLUSTER_CONNECTIONS
from qupersync_assets.postgres.daily_history import SNAPSHOT_DAYS
from qupersync_assets.postgres.health_tables import HEALTH_TABLES
from qupersync_assets.postgres.health_views import HEALTH_VIEWS
from qupersync_assets.postgres.query_sums import QUERY_SUMS
from qupersync_assets.postgres.skipped_rows import SKIPPED_ROWS
from qupersync_assets.postgres.sync_logs import SYNC_LOGS
from qupersync_assets.settings import variables
from qupersync_assets.spec import SCHEMA, SyncSpec
from qupersync_assets.spec.redshift_views import documentation_url, documented_views
from qupersync_assets.spec.view import View
from qupersync_assets.sync_jobs import all_specs, default_specs
from tools import command_line
from tools.grafana import boards
from tools.reader_queries import reader_queries

PROJECT = Path(__file__).parents[1]
# Title and variables of each section of the settings; a variable is in the first section that matches.
SECTIONS = {
    "Sync": "SYNC_(?!EXECUTOR|MAX_CONCURRENT|STEP_).*|.*_RETENTION_DAYS|CLUSTER.*|REDSHIFT_(SYNC|QUIET)_.*",
    "Executor": "SYNC_.*|CELERY_.*|KUBERNETES_.*",
    "Redshift": "REDSHIFT_(HOST|PORT|DATABASES?|USER|PASSWORD)",
    "Redshift: IAM instead of a password": "REDSHIFT_(IAM|CLUSTER_.*|WORKGROUP|ACCOUNT_ID|REGION)",
    "Redshift: a secret of AWS Secrets Manager instead of a password": "REDSHIFT_SECRET_ARN",
    "Redshift: AWS identity for IAM or the secret": "REDSHIFT_(PROFILE|.*_KEY.*|SESSION_TOKEN)",
    "Redshift: TLS, timeouts and price": "REDSHIFT_.*",
    "PostgreSQL: the target, and the storage of Dagster": "POSTGRES_.*",
    "Dagster UI": "ASSET_OWNER|CODE_URL|UI_(?!URL).*",
    "Health of clusters": "HEALTH_.*",
    "Metrics, health and logs": "METRICS_.*|LOG_.*",
    "Alerts": "UI_URL|ALERT_.*",
}
NOTE = "<!-- Written by `make docs`; changes belong in {}. -->"


def pages() -> dict[Path, str]:
    """Return the text of each file that is generated or has a generated part."""
    redshift = "docs/reference/redshift.md"
    return {
        PROJECT / ".env.example": "\n".join(_env_example()) + "\n",
        PROJECT / "docs/reference/settings.md": "\n".join(_settings()) + "\n",
        PROJECT / "docs/pages.md": "\n".join(_pages()) + "\n",
        PROJECT / "docs/reference/tables.md": "\n".join(_tables()) + "\n",
        PROJECT / "README.md": _with_part("README.md", "sync jobs", _jobs(default_specs())),
        PROJECT / "docs/operations.md": _with_part("docs/operations.md", "optional jobs", _optional_jobs()),
        PROJECT / "docs/health.md": _with_part("docs/health.md", "signals", _signals()),
        PROJECT / redshift: _with_part(redshift, "variants", _variants()),
        **boards(),
        **{PROJECT / path: text for path, text in command_line.pages().items()},
    }


def _with_part(name: str, part: str, text: str) -> str:
    """Return the text of a file with one generated part replaced; two comments mark the part."""
    pattern = rf"(<!-- {part}: written by `make docs` -->\n).*?(<!-- end of {part} -->)"
    whole, count = re.subn(
        pattern, lambda found: f"{found[1]}{text}\n{found[2]}", (PROJECT / name).read_text("utf-8"), flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{name} has {count} places for the {part}")
    return whole


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_plain, row))} |" for row in cells)


def _plain(cell: str) -> str:
    """Escape the characters that end a cell or start a tag in Markdown."""
    return cell.replace("|", "\\|").replace("<", "&lt;")


def _sections() -> dict[str, dict[str, FieldInfo]]:
    """Return the fields by title and variable."""
    sections: dict[str, dict[str, FieldInfo]] = {title: {} for title in SECTIONS}
    for variable, field in variables().items():
        title = next(title for title, pattern in SECTIONS.items() if re.fullmatch(pattern, variable))
        sections[title][variable] = field
    return sections


def _env_example() -> Iterator[str]:
    yield (
        "# Copy to .env and fill in. Lines that are commented out show the default. Put a value with spaces\n"
        "# or quotes or # in single quotes; there, \\' is a quote and \\\\ a backslash. Each secret NAME can be\n"
        "# in a file instead, which NAME_FILE names.\n"
        "# Written by `make docs`; changes belong in qupersync_assets/settings/."
    )
    for title, fields in _sections().items():
        yield f"\n# --- {title}"
        for variable, field in fields.items():
            yield from textwrap.wrap(f"# {field.description}", 118, subsequent_indent="# ")
            example = field.examples[0] if field.examples else None
            yield f"{variable}={example}" if example else f"#{variable}={_default(field)}"


def _default(field: FieldInfo) -> str:
    if field.is_required() or field.default is None:
        return ""
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def _settings() -> Iterator[str]:
    """Yield one table for each section."""
    yield "# Settings\n"
    yield NOTE.format("qupersync_assets/settings/") + "\n"
    yield (
        "QuperSync reads environment variables once, when it starts; `make up` and `qupersync` add those that are "
        "not set from the file `.env` of their folder, for which [.env.example](../../.env.example) is the template. "
        "An empty variable counts as not set. All invalid settings are reported together, each with its variable, "
        "allowed values and purpose. Secrets are never shown. Each secret can be in a file, which the variable with "
        "the suffix `_FILE` names, such as `POSTGRES_PASSWORD_FILE`, `REDSHIFT_<NAME>_PASSWORD_FILE` or "
        "`ALERT_URLS_FILE`. Each login reads its file again. The required variables of Redshift depend on "
        "the login: [installation.md](../installation.md#log-in-to-redshift)."
    )
    for title, fields in _sections().items():
        yield f"\n## {title}\n"
        rows = [_setting(variable, field) for variable, field in fields.items()]
        yield _table(["variable", "default", "allowed", "description"], rows)


def _setting(variable: str, field: FieldInfo) -> list[str]:
    default = f"`{_default(field)}`" if _default(field) else ""
    if field.is_required():
        default = "by login" if variable.startswith("REDSHIFT_") else "**required**"
    annotated: Any = Annotated[field.annotation, "", *field.metadata]
    schema = TypeAdapter(annotated).json_schema()
    return [f"`{variable}`", default, _allowed(schema), str(field.description)]


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


def _jobs(specs: Sequence[SyncSpec]) -> str:
    rows = []
    for spec in specs:
        sources = ", else ".join(variant.name for variant in spec.variants)
        key = ", ".join(c.name for c in spec.key if c.name != "cluster")
        anchor = f"docs/reference/tables.md#quper{spec.table.name}"
        rows.append([spec.sync_job_id, f"[{spec.table.fullname}]({anchor})", spec.kind, sources, key])
    headings = ["sync_job_id", "table", "kept as", "source in Redshift (the first that can be read)"]
    return _table([*headings, "key, after `cluster`"], rows)


def _optional_jobs() -> str:
    rows = []
    for spec in (spec for spec in all_specs() if spec.optional):
        sources = ", else ".join(variant.name for variant in spec.variants)
        table = f"[{spec.table.fullname}](reference/tables.md#quper{spec.table.name})"
        views = [view for view in spec.all_sources if documented_views()[view]["visibility"] == "superuser"]
        rows.append([spec.sync_job_id, table, spec.description, sources, ", ".join(views)])
    return _table(["sync_job_id", "table", "what it has", "source in Redshift", "needs SELECT on"], rows)


def _signals() -> str:
    """Return the signals by group, with their thresholds and the jobs that they need."""
    optional = {spec.sync_job_id for spec in all_specs() if spec.optional}
    lines = []
    for name, group in groups().items():
        rows = []
        for signal in group.signals:
            unit = signal.threshold_unit or signal.unit
            threshold = f"{signal.threshold:,.10g} {unit}" if signal.threshold is not None else ""
            needs = ", ".join(job for job in signal.jobs if job in optional)
            title = f"[{signal.title}]({signal.url})"
            rows.append([f"`{signal.id}`", title, signal.severity, threshold, needs or signal.unavailable])
        lines.append(f"### {group.title}: `{name}`\n")
        lines.append(_table(["signal", "finds", "severity", "threshold", "optional jobs that it needs"], rows) + "\n")
    return "\n".join(lines).rstrip()


def _variants() -> str:
    """Return the variants of each job, and the columns that are NULL if it is read."""
    rows = []
    for spec in all_specs():
        for number, variant in enumerate(spec.variants):
            unknown = ", ".join(c.name for c in spec.columns if c.name not in variant.expressions)
            rows.append(["" if number else spec.sync_job_id, variant.name, unknown])
    return _table(["job", "reads (the first that can be read)", "columns that are NULL"], rows)


def _tables() -> Iterator[str]:
    """Yield one section for each table of the schema quper."""
    yield "# Tables\n"
    yield NOTE.format("qupersync_assets/sync_jobs/ and qupersync_assets/postgres/") + "\n"
    yield (
        "All tables are in the schema `quper`; PostgreSQL's comments on them have the same texts. Times are "
        "UTC. Key columns are in **bold**. A column is read from the first of its views that the cluster has "
        "and that the user may read; [redshift.md](redshift.md) lists the columns that the other views lack. "
        "The Dagster UI shows the same, with links, in the columns of each asset. [pages.md](../pages.md) has SQL for "
        "common questions."
    )
    for spec in all_specs():
        yield from _target(spec)
    for table in (SYNC_LOGS, SKIPPED_ROWS, SNAPSHOT_DAYS, CLUSTER_CONNECTIONS, *HEALTH_TABLES, *QUERY_SUMS):
        yield f"\n## {table.fullname}\n"
        yield f"{table.comment}\n"
        yield _columns(table, {})
        yield from _example(table.fullname)
    for shown in HEALTH_VIEWS:
        yield from _view(shown)


def _pages() -> Iterator[str]:
    yield "# SQL for common questions\n"
    yield NOTE.format("deploy/sql/pages.sql") + "\n"
    yield (
        "Each question is one SELECT. Replace `'default'` by the name of your cluster; without this condition a query "
        "shows all clusters. Members of `quper_readers`, a role of "
        "[deploy/sql/postgres.sql](../deploy/sql/postgres.sql), may run them. "
        "[reference/tables.md](reference/tables.md) describes the columns, and [benchmark.md](benchmark.md) has the "
        "times of these queries."
    )
    for title, sql in reader_queries("pages").items():
        yield f"\n## {title}"
        yield _sql(sql)


def _example(name: str) -> Iterator[str]:
    """Yield the example of a table or view, if it has one."""
    if sql := reader_queries("examples").get(name):
        yield _sql(sql)


def _sql(query: str) -> str:
    return f"\n```sql example\n{query}\n```"


def _target(spec: SyncSpec) -> Iterator[str]:
    yield f"\n## {spec.table.fullname}\n"
    yield f"{spec.description} {spec.table.comment}\n"
    views = ", else ".join(
        " with ".join(f"[{view}]({documentation_url(view)})" for view in variant.sources) for variant in spec.variants
    )
    kept = (
        "history table"
        if spec.kind == "history"
        else f"snapshot table; `{spec.table.fullname}_current` shows the rows without `removed_at`"
    )
    yield f"{'Optional job' if spec.optional else 'Job'} `{spec.sync_job_id}`, from {views}; {kept}.\n"
    reads: dict[str, list[str]] = defaultdict(list)
    for target, view, column in spec.lineage():
        reads[target].append(f"`{view}.{column}`")
    yield _columns(spec.table, reads)
    yield from _example(spec.table.fullname)
    if spec.daily:
        yield f"\n## {spec.daily.table.fullname}\n\n{spec.daily.table.comment}\n"
        yield _columns(spec.daily.table, {})
        yield from _example(spec.daily.table.fullname)
    for shown in spec.all_views:
        if not shown.name.endswith("_current"):
            yield from _view(shown)


def _view(shown: View) -> Iterator[str]:
    yield f"\n## {SCHEMA}.{shown.name}\n\nView. {shown.comment}\n"
    yield _table(["column", "description"], [[name, comment] for name, comment in shown.columns.items()])
    yield from _example(f"{SCHEMA}.{shown.name}")


def _columns(table: sa.Table, reads: Mapping[str, list[str]]) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    rows = []
    for column in table.c:
        name = f"**{column.name}**" if column.primary_key else column.name
        type_ = column.type.compile(dialect).lower().replace("timestamp with time zone", "timestamptz")
        row = [name, type_ if column.nullable else f"{type_} not null", column.comment or ""]
        rows.append([*row, ", ".join(reads[column.name])] if reads else row)
    headings = ["column", "type", "description"]
    return _table([*headings, "read from"] if reads else headings, rows)


def main() -> None:
    """Write all generated files."""
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
