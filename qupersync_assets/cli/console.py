"""Output of the command line: results go to stdout, as text or JSON; messages and errors go to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qupersync_assets.postgres.sync_status import SyncStatus

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Cluster = Annotated[list[str] | None, typer.Option(help="Only this cluster of CLUSTERS; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]

# A pipe has no width; one row should stay on one line.
PIPE_WIDTH = 200


class CommandError(Exception):
    """A verb cannot run; the text says what to change.

    Attributes:
        exit_code: 1, or 2 if the command line is wrong.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def out(*, stderr: bool = False) -> Console:
    """Return the console of stdout, or of stderr."""
    from rich.console import Console

    has_width = (sys.stderr if stderr else sys.stdout).isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, width=None if has_width else PIPE_WIDTH, highlight=False)


def print_line(console: Console, text: str, style: str | None = None) -> None:
    """Print a text as it is: no markup, no line breaks."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Print a message on stderr."""
    print_line(out(stderr=True), text)


def print_json(document: Any) -> None:
    """Print a document on stdout; times are ISO 8601 in UTC."""
    typer.echo(json.dumps(document, indent=2, default=_json_value))


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


@contextmanager
def exit_on_errors(as_json: bool) -> Iterator[None]:
    """Print an expected error on stderr, and `{"error": ...}` on stdout for JSON, without secrets; exit with
    code 1, or 2 if the command line is wrong."""
    from qupersync_assets.core.errors import SyncError
    from qupersync_assets.core.redaction import redact, redact_exceptions
    from qupersync_assets.defs.instance import InstanceError
    from qupersync_assets.settings import SettingsError

    try:
        with redact_exceptions():
            yield
    except (CommandError, InstanceError, SyncError, SettingsError) as error:
        text = redact(str(error))
        print_line(out(stderr=True), text, "red")
        if as_json:
            print_json({"error": text})
        raise typer.Exit(getattr(error, "exit_code", 1)) from None


def plain_table(headings: Sequence[str], numbers: Sequence[str] = (), title: str | None = None) -> Table:
    """Return a table without borders that folds long cells.

    Args:
        headings: of all columns.
        numbers: headings of the columns to align on the right.
        title: line above the table.
    """
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    return table


def format_duration(span: timedelta | float | None) -> str:
    """Return a time span, or seconds, in its two largest units: 120 ms, 45 s, 5m 10s, 2h 5m, 3d."""
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


_STYLES: dict[str, str] = {
    SyncStatus.SUCCESS: "",
    SyncStatus.RUNNING: "cyan",
    SyncStatus.UNAVAILABLE: "yellow",
    SyncStatus.SKIPPED: "yellow",
}


def style_of(status: str | None) -> str:
    """Return the style of a status of quper.sync_logs; None is a job that never ran."""
    return _STYLES.get(status, "red") if status else "dim"
