"""The command `qupersync`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from dotenv import load_dotenv
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qupersync_assets import doctor as diagnosis
from qupersync_assets import schema
from qupersync_assets.doctor import Finding
from qupersync_assets.errors import LoadError, redact, secrets_kept
from qupersync_assets.resources import in_clear, postgres_resource
from qupersync_assets.settings import Settings, SettingsError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
# A pipe has no width of its own.
console = Console() if sys.stdout.isatty() else Console(width=120)


@app.callback()
def main() -> None:
    """Keeps the health data of Redshift clusters fresh in PostgreSQL. Settings come from the environment, and
    from the file .env of this folder."""
    load_dotenv(".env")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Look at both databases as a sync would find them, and say what to do. Nothing is changed.

    The exit code is 0 only if all is well.
    """
    try:
        with secrets_kept():
            findings = list(diagnosis.examine(Settings.load()))
    except SettingsError as error:
        findings = [Finding("settings", "variables", "not usable", str(error))]
    well = all(finding.ok for finding in findings)
    if as_json:
        report = {"ok": well, "findings": [finding.as_json() for finding in findings]}
        typer.echo(json.dumps(report, indent=2))
    else:
        _print(findings)
    raise typer.Exit(0 if well else 1)


@app.command()
def migrate(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a sentence.")] = False,
) -> None:
    """Bring the schema quper to the version that this QuperSync needs, whatever SYNC_AUTO_MIGRATE says."""
    try:
        before, after = schema.migrate(postgres_resource(Settings.load(), in_clear))
    except (SettingsError, LoadError) as error:
        console.print(f"[red]{escape(redact(str(error)))}", soft_wrap=True, highlight=False)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps({"before": before, "after": after}))
    elif before == after:
        console.print(f"The schema has version {after} already.", highlight=False)
    else:
        console.print(f"The schema went from version {before or 'none'} to {after}.", highlight=False)


def _print(findings: list[Finding]) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("", "side", "what", "found"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[red]!![/]"
        table.add_row(mark, finding.where, escape(finding.what), escape(finding.detail))
    console.print(table)
    # Below the table and not broken, so that statements can be copied.
    for finding in findings:
        if finding.remedy:
            console.print(f"\n[red]!![/] {finding.where}, {escape(finding.what)}: {escape(finding.detail)}")
            console.print(escape(finding.remedy), soft_wrap=True, highlight=False)
    console.print("\nAll is well." if all(f.ok for f in findings) else "")
