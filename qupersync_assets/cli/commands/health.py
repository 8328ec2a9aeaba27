"""`qupersync health`: problems of the clusters, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from qupersync_assets.cli.arguments import Cluster, one_of, parse_time, select_clusters
from qupersync_assets.cli.console import CommandError, Json, exit_on_errors, out, print_block, print_json, print_line
from qupersync_assets.cli.health_page import write_page
from qupersync_assets.core.durations import format_duration
from qupersync_assets.health.signal import Severity

if TYPE_CHECKING:
    from qupersync_assets.postgres.resource import PostgresResource
    from qupersync_assets.settings import Settings

Row = Mapping[str, Any]
_STYLES = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
# 1 and 2 are those of a command that failed.
_EXIT_CODES = {Severity.CRITICAL: 4, Severity.WARNING: 3}


def health(
    group: Annotated[
        list[str] | None, typer.Option(metavar="GROUP", help="Only this group of signals, such as tables; repeatable.")
    ] = None,
    severity: Annotated[
        Severity,
        typer.Option(
            parser=one_of(Severity),
            metavar="SEVERITY",
            help="Lowest severity that is shown: critical, warning or info.",
        ),
    ] = Severity.INFO,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_time, metavar="TIME|DURATION", help="Only findings that began since then: 2026-11-24, 7d."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="Maximum number of findings.")] = 20,
    evaluate_now: Annotated[
        bool,
        typer.Option(
            "--evaluate", metavar="", help="Check the tables now, instead of showing what the last sync found."
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an HTML page with all findings and plots, instead of printing them."),
    ] = None,
    cluster: Cluster = None,
    as_json: Json = False,
) -> None:
    """Print what to fix first: problems of the clusters, since when, and the statement or setting that helps.

    Findings are ordered by severity, then by the size of the object and the number of occurrences. --json prints
    all of them. The exit code is 4 if one of the selected findings is critical, 3 if one is a warning, else 0; 1 if
    the cluster was never checked, 2 if the command line is wrong. docs/health.md lists the signals.
    """
    with exit_on_errors(as_json):
        from qupersync_assets.health import groups
        from qupersync_assets.postgres.resource import postgres_resource
        from qupersync_assets.postgres.schema import ensure_schema
        from qupersync_assets.settings import Settings

        if unknown := sorted(set(group or ()) - groups().keys()):
            raise CommandError(f"There is no group {', '.join(unknown)}. Groups: {', '.join(groups())}.", exit_code=2)
        settings = Settings.load(logins=False)
        clusters = select_clusters(settings, cluster)
        postgres = postgres_resource(settings)
        ensure_schema(postgres)
        if evaluate_now:
            _evaluate(settings, postgres, clusters)
        found = _read(postgres, clusters, group or [], severity, since, None if as_json else limit)
        if html:
            write_page(postgres, clusters, html)
            found |= {"html": str(html.resolve())}
        elif not found["clusters"]:
            off = "HEALTH_FINDINGS is false" if not settings.health_findings else "that follows the next sync"
            raise CommandError(f"No cluster was checked yet: {off}. `qupersync health --evaluate` does it now.")
        if as_json:
            print_json(found)
        else:
            print_line(out(), f"Page: {html.resolve().as_uri()}") if html else _print(out(), found)
    raise typer.Exit(_EXIT_CODES.get(found["worst"], 0))


def _evaluate(settings: Settings, postgres: PostgresResource, clusters: Sequence[str]) -> None:
    from qupersync_assets.health.evaluation import evaluate
    from qupersync_assets.sync.health_options import options_by_cluster

    options = options_by_cluster(settings)
    for name in clusters:
        evaluate(postgres, name, options[name], always=True)


def _read(
    postgres: PostgresResource,
    clusters: Sequence[str],
    groups: Sequence[str],
    severity: Severity,
    since: datetime | None,
    limit: int | None,
) -> dict[str, Any]:
    """Return the document that --json prints; `findings` has no more than `limit`."""
    from qupersync_assets.health import readers

    severities = list(Severity)[: list(Severity).index(severity) + 1]
    with postgres.transaction() as connection:
        findings = readers.open_findings(
            connection, clusters, groups=groups, severities=severities, since=since, limit=limit
        )
        counted = [row for row in readers.summaries(connection, clusters) if not groups or row["group_id"] in groups]
        left_out = [row for row in readers.left_out(connection, clusters) if not groups or row["group_id"] in groups]
        evaluated = readers.evaluated_at(connection, clusters)
    return {
        "worst": findings[0]["severity"] if findings else None,
        "clusters": [{"cluster": name, "evaluated_at": time} for name, time in evaluated.items()],
        "groups": counted,
        "findings": findings,
        "not_evaluated": left_out,
    }


def _print(console: Console, found: Mapping[str, Any]) -> None:
    several = len(found["clusters"]) > 1
    now = datetime.now(UTC)
    for entry in found["clusters"]:
        counted = [row for row in found["groups"] if row["cluster"] == entry["cluster"]]
        numbers = ", ".join(f"{sum(int(row[kind]) for row in counted)} {kind}" for kind in Severity)
        ago = format_duration(now - entry["evaluated_at"])
        print_line(console, f"Cluster {entry['cluster']}: {numbers}; evaluated {ago} ago.")
    for number, finding in enumerate(found["findings"], 1):
        _print_finding(console, number, finding, several, now)
    if not found["findings"]:
        console.print("\nNo findings.")
    total = sum(int(row[kind]) for row in found["groups"] for kind in Severity)
    if len(found["findings"]) < total:
        print_line(
            console, f"\n{len(found['findings'])} of {total} open findings; --limit and other options show more."
        )
    missing = {job for row in found["not_evaluated"] if row["status"] == "no data" for job in _jobs(row["reason"])}
    if found["not_evaluated"]:
        off = f" Jobs that are off in SYNC_JOBS: {', '.join(sorted(missing))}." if missing else ""
        print_block(console, Text(f"\n{len(found['not_evaluated'])} signals could not be checked.{off}"))


def _jobs(reason: str) -> list[str]:
    """Return the jobs that a reason names as off."""
    words = reason.split()
    return [job for job, *after in zip(words, words[1:], words[2:], strict=False) if after == ["is", "off:"]]


def _print_finding(console: Console, number: int, row: Row, several: bool, now: datetime) -> None:
    """Print severity, title and object, then value and age, then what helps; lines are folded to the width."""
    console.print()
    where = f"{row['cluster']}: " if several else ""
    print_block(console, Text(f"{number}. {row['severity']}: {row['title']}", style=_STYLES[row["severity"]]))
    since = f"{row['since'].astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    facts = [_value(row), f"since {since}, {format_duration(now - row['since'])}"]
    if row["times"]:
        facts.append(f"{row['times']:,} {row['times_are']}")
    if row["note"]:
        facts.append(row["note"])
    for text in (f"{where}{row['object']}", "; ".join(facts), row["remedy"]):
        if text:
            print_block(console, Padding(Text(text), (0, 0, 0, 3)))


def _value(row: Row) -> str:
    """Return the measured value with its unit, and what it was when the finding was opened if that differs."""
    if row["value"] is None:
        return ""
    before = "" if row["value_first"] in (None, row["value"]) else f" ({_number(row['value_first'])} then)"
    return f"{_number(row['value'])}{before} {row['unit'] or ''}".strip()


def _number(value: Any) -> str:
    return f"{value.normalize():,f}"
