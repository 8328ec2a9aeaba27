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
from qupersync_assets.doctor import Finding
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


def _print(findings: list[Finding]) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("", "side", "what", "found"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[red]!![/]"
        table.add_row(mark, finding.side, escape(finding.what), escape(finding.detail))
    console.print(table)
    # Below the table and not broken, so that statements can be copied.
    for finding in findings:
        if finding.remedy:
            console.print(f"\n[red]!![/] {finding.side}, {escape(finding.what)}: {escape(finding.detail)}")
            console.print(escape(finding.remedy), soft_wrap=True, highlight=False)
    console.print("\nAll is well." if all(f.ok for f in findings) else "")
