"""How the verbs speak: tables and sentences for people, JSON for machines, and errors for both.

What a verb has to say goes to stdout, as JSON alone if that is asked for; all else goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Cluster = Annotated[
    list[str] | None, typer.Option(help="Only this one of several clusters (CLUSTERS); repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for machines.")]

# A pipe has no width of its own, and what is piped should keep a row on a line.
PIPE_WIDTH = 200


class CommandError(Exception):
    """A verb cannot do what it was asked for; the text says what to change.

    Attributes:
        exit_code: 1, or 2 if the command line is at fault.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def out(*, stderr: bool = False) -> Console:
    """The console of stdout, or of stderr."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    sized = stream.isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, width=None if sized else PIPE_WIDTH, highlight=False)


def note(text: str) -> None:
    """A sentence on stderr."""
    out(stderr=True).print(text, markup=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """A document on stdout: times as ISO 8601, in UTC."""
    typer.echo(json.dumps(document, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """Turn what can go wrong into a sentence on stderr, and `{"error": ...}` if JSON is wanted; end the
    process with the exit code 1, or 2 for a command line at fault. No secret is told."""
    from qupersync_assets.core.errors import SyncError
    from qupersync_assets.core.redaction import redact, redact_exceptions
    from qupersync_assets.defs.instance import InstanceError
    from qupersync_assets.settings import SettingsError

    try:
        with redact_exceptions():
            yield
    except (CommandError, InstanceError, SyncError, SettingsError) as error:
        text = redact(str(error))
        out(stderr=True).print(text, style="red", markup=False, soft_wrap=True)
        if as_json:
            print_json({"error": text})
        raise typer.Exit(getattr(error, "exit_code", 1)) from None


def plain_table(headings: Sequence[str], numbers: Sequence[str] = (), title: str | None = None) -> Table:
    """A table without lines, which folds what is too long and cuts nothing off; `numbers` are the headings of
    columns that are aligned on the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading in numbers else "left"
        table.add_column(heading, justify=justify, overflow="fold")
    return table


def short(span: timedelta | float | None) -> str:
    """A time span (seconds if it is a number) in its two greatest units: 120 ms, 45 s, 5m 10s, 2h 5m, 3d."""
    if span is None:
        return "-"
    seconds = max(span.total_seconds() if isinstance(span, timedelta) else span, 0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{int(seconds)} s"
    whole = int(seconds)
    parts = [("d", whole // 86400), ("h", whole // 3600 % 24), ("m", whole // 60 % 60), ("s", whole % 60)]
    first = next(i for i, (_, count) in enumerate(parts) if count)
    return " ".join(f"{count}{unit}" for unit, count in parts[first : first + 2] if count)


STYLES = {"success": "", "running": "cyan", "unavailable": "yellow", "skipped": "yellow"}


def style_of(status: str | None) -> str:
    """The style of a status of quper.sync_logs: that there is nothing to read, or that another run reads it,
    is no fault."""
    return STYLES.get(status or "", "red" if status else "dim")
