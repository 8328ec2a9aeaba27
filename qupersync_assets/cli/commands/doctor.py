"""`qupersync doctor`: check both databases."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from qupersync_assets.cli.console import Json, out, print_block, print_json
from qupersync_assets.cli.summary import plain_table

if TYPE_CHECKING:
    from qupersync_assets.doctor import Finding


def doctor(as_json: Json = False) -> None:
    """Check the settings and both databases, and list problems, each with the SQL or setting that fixes it. Nothing
    is changed.

    The exit code is 0 if there is no problem, else 1.
    """
    from qupersync_assets.core.environment import env_file_hint
    from qupersync_assets.core.redaction import redact_exceptions
    from qupersync_assets.doctor import Finding, examine
    from qupersync_assets.settings import Settings, SettingsError

    with redact_exceptions():
        try:
            findings = list(examine(Settings.load()))
        except SettingsError as error:
            findings = [Finding("settings", "variables", "not usable", str(error.with_hint(env_file_hint())))]
    ok = all(finding.ok for finding in findings)
    if as_json:
        print_json({"ok": ok, "findings": [{**asdict(finding), "ok": finding.ok} for finding in findings]})
    else:
        _print(findings)
    raise typer.Exit(0 if ok else 1)


def _print(findings: list[Finding]) -> None:
    console = out()
    table = plain_table(("", "side", "what", "found"))
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[red]!![/]"
        table.add_row(mark, finding.where, escape(finding.what), escape(finding.detail))
    print_block(console, table)
    problems = [finding for finding in findings if finding.remedy]
    for finding in problems:
        console.print(f"\n[red]!![/] {finding.where}, {escape(finding.what)}: {escape(finding.detail)}")
        # Not broken into lines: statements are copied from here.
        console.print(escape(finding.remedy or ""), soft_wrap=True)
    console.print("" if problems else "\nNo problems found.")
