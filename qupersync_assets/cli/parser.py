"""How Typer parses and describes the command line."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class Verb(TyperCommand):
    """A verb whose help shows types as people read them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the arguments and options."""
        return [_described(parameter) for parameter in super().get_params(ctx)]


class Group(TyperGroup):
    """A group of verbs whose help shows types as people read them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options."""
        return [_described(parameter) for parameter in super().get_params(ctx)]


def _described(parameter: Any) -> Any:
    """Leave the type out where the name says it: of an argument, and of an option without a value."""
    if parameter.param_type_name == "argument" or parameter.metavar is None:
        parameter.display_type_rich = lambda ctx: ""
    return parameter
