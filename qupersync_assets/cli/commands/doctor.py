"""`qupersync doctor` and `qupersync migrate`: what one does before the first sync and after an upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from qupersync_assets.cli.console import Json, out, plain_table, print_json, reported

if TYPE_CHECKING:
    from qupersync_assets.doctor import Finding


def doctor(as_json: Json = False) -> None:
    """Look at both databases as a sync would find them, and say what to do. Nothing is changed.

    The exit code is 0 only if all is well.
    """
    from qupersync_assets.core.redaction import redact_exceptions
    from qupersync_assets.doctor import Finding, examine
    from qupersync_assets.settings import Settings, SettingsError

    try:
        with redact_exceptions():
            findings = list(examine(Settings.load()))
    except SettingsError as error:
        findings = [Finding("settings", "variables", "not usable", str(error))]
    well = all(finding.ok for finding in findings)
    if as_json:
        print_json({"ok": well, "findings": [finding.as_json() for finding in findings]})
    else:
        _print(findings)
    raise typer.Exit(0 if well else 1)


def migrate(as_json: Json = False) -> None:
    """Bring the schema quper to the version that this QuperSync needs, whatever SYNC_AUTO_MIGRATE says."""
    with reported(as_json):
        from qupersync_assets.defs.resources import postgres_resource
        from qupersync_assets.postgres import schema
        from qupersync_assets.settings import Settings

        before, after = schema.migrate(postgres_resource(Settings.load()))
        if as_json:
            print_json({"before": before, "after": after})
        elif before == after:
            out().print(f"The schema has version {after} already.")
        else:
            out().print(f"The schema went from version {before or 'none'} to {after}.")


def _print(findings: list[Finding]) -> None:
    from rich.markup import escape

    console = out()
    table = plain_table(("", "side", "what", "found"))
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[red]!![/]"
        table.add_row(mark, finding.where, escape(finding.what), escape(finding.detail))
    console.print(table)
    # Below the table and not broken, so that statements can be copied.
    for finding in findings:
        if finding.remedy:
            console.print(f"\n[red]!![/] {finding.where}, {escape(finding.what)}: {escape(finding.detail)}")
            console.print(escape(finding.remedy), soft_wrap=True)
    console.print("\nAll is well." if all(f.ok for f in findings) else "")
