"""How Typer parses and describes the command line."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class Verb(TyperCommand):
    """A verb whose help shows no type for --help."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option --help."""
        return _without_type(super().get_help_option(ctx))


class Group(TyperGroup):
    """A group of verbs whose help shows no type for --help."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option --help."""
        return _without_type(super().get_help_option(ctx))


def _without_type(option: Any) -> Any:
    if option is not None:
        option.metavar = ""
    return option
