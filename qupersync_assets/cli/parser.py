"""How Typer parses and describes the command line."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class Verb(TyperCommand):
    """A verb whose help shows types as people read them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the arguments and options."""
        return [_described(parameter) for parameter in super().get_params(ctx)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        _print_help(lambda: super(Verb, self).format_help(ctx, formatter))


class Group(TyperGroup):
    """A group of verbs whose help shows types as people read them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options."""
        return [_described(parameter) for parameter in super().get_params(ctx)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        _print_help(lambda: super(Group, self).format_help(ctx, formatter))


def _described(parameter: Any) -> Any:
    """Leave the type out where the name says it: of an argument, and of an option without a value."""
    if parameter.param_type_name == "argument" or parameter.metavar is None:
        parameter.display_type_rich = lambda ctx: ""
    return parameter


def _print_help(write: Callable[[], None]) -> None:
    """Print a help; in a pipe or a file without blanks at the ends of lines, which Typer adds."""
    if sys.stdout.isatty():
        write()
        return
    with redirect_stdout(StringIO()) as text:
        write()
    typer.echo("\n".join(line.rstrip() for line in text.getvalue().splitlines()))
