"""Output of the command line: results go to stdout, as text or JSON; messages and errors go to stderr."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from qupersync_assets.core.redaction import escape_controls

Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="Print results and errors only.")]

# A pipe has no width; one row should stay on one line.
PIPE_WIDTH = 200
_quiet = False


class CommandError(Exception):
    """A verb cannot run; the text says what to change. `exit_code` is 2 if the command line is wrong."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class SafeConsole(Console):
    """A console that shows control characters in texts, such as those of a server, as escapes."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text with its markup; the width of a cell is that of the escapes."""
        return super().render_str(escape_controls(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of anything that is printed."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escape_controls(segment.text))


def out(*, stderr: bool = False) -> Console:
    """Return the console of stdout, or of stderr."""
    has_width = (sys.stderr if stderr else sys.stdout).isatty() or "COLUMNS" in os.environ
    # Without emoji: `:secret:` of an ARN would become one.
    return SafeConsole(stderr=stderr, width=None if has_width else PIPE_WIDTH, highlight=False, emoji=False)


def set_quiet(quiet: bool) -> None:
    """Let `note` print nothing from now on, or print again."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Return whether only results and errors are printed."""
    return _quiet


def print_block(console: Console, block: RenderableType) -> None:
    """Print a table, or another block, without blanks at the ends of lines."""
    for line in console.render_lines(block, pad=False):
        text = Text.assemble(*((segment.text, segment.style or "") for segment in line))
        text.rstrip()
        console.print(text, soft_wrap=True)


def print_line(console: Console, text: str, style: str | None = None) -> None:
    """Print a text as it is: no markup, no line breaks."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Print a message on stderr, unless only results and errors are wanted."""
    if not _quiet:
        print_line(out(stderr=True), text)


def busy(text: str) -> AbstractContextManager[object]:
    """Show on a terminal that something takes time, unless only results and errors are wanted."""
    console = out(stderr=True)
    return console.status(text) if console.is_terminal and not _quiet else nullcontext()


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
    from qupersync_assets.core.environment import env_file_hint
    from qupersync_assets.core.errors import InstanceError, SyncError
    from qupersync_assets.core.redaction import redact, redact_exceptions
    from qupersync_assets.settings import SettingsError

    try:
        yield
    except (CommandError, InstanceError, SyncError, SettingsError) as error:
        shown = error.with_hint(env_file_hint()) if isinstance(error, SettingsError) else error
        text = redact(str(shown))
        print_line(out(stderr=True), text, "red")
        if as_json:
            print_json({"error": text})
        raise typer.Exit(getattr(error, "exit_code", 1)) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception:
        with redact_exceptions():  # which changes the type
            raise
