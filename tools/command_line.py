"""Writes docs/reference/command-line.md and the JSON schemas of the verbs, from the code."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from qupersync_assets.cli import app
from qupersync_assets.cli.documents import DOCUMENTS, EXIT_CODES

SCHEMAS = Path("docs/reference/json")


def pages() -> dict[Path, str]:
    """Return the text of each file, by its path in the project."""
    schemas = {
        SCHEMAS / f"{verb.replace(' ', '-')}.schema.json": json.dumps(document.model_json_schema(), indent=2) + "\n"
        for verb, document in DOCUMENTS.items()
    }
    return {Path("docs/reference/command-line.md"): "\n".join(_page()) + "\n", **schemas}


def _page() -> Iterator[str]:
    root: Any = typer.main.get_command(app)
    context = root.make_context("qupersync", [], resilient_parsing=True)
    yield from ("<!-- Written by `make docs`; changes belong in qupersync_assets/cli. -->", "# Command line", "")
    yield "Results go to stdout, messages and errors to stderr. `NO_COLOR=1` prints without colours, as a pipe does."
    yield "Times are UTC. `qupersync --install-completion` lets your shell complete verbs, options, jobs and clusters."
    yield from ("", "`qupersync [OPTIONS] VERB [OPTIONS]`", "", *_options(root, context))
    yield from ("", "## Exit codes", "", "| code | meaning | verbs |", "|---|---|---|")
    for code, (meaning, verbs) in EXIT_CODES.items():
        yield f"| {code} | {meaning} | {verbs} |"
    yield from ("", "## JSON", "")
    yield "Each verb but `mcp` has `--json`."
    yield 'A verb that cannot run prints `{"error": TEXT}`; a wrong option prints nothing.'
    yield "Keys may be added; they are not renamed or removed before the next major version."
    for verb, command in _verbs(root, context):
        inner = command.make_context(f"qupersync {verb}", [], parent=context, resilient_parsing=True)
        yield from ("", f"## {verb}", "", *inspect.cleandoc(command.help or "").splitlines(), "")
        yield from _options(command, inner)
        if verb in DOCUMENTS:
            yield from ("", f"JSON: [schema](json/{verb.replace(' ', '-')}.schema.json)")


def _verbs(group: Any, context: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield f"{before}{name}", command
        if hasattr(command, "list_commands"):
            yield from _verbs(command, context, f"{name} ")


def _options(command: Any, context: Any) -> Iterator[str]:
    yield from ("| argument | meaning | default |", "|---|---|---|")
    for parameter in command.get_params(context):
        names = ", ".join(sorted(parameter.opts)) if parameter.param_type_name == "option" else ""
        metavar = f"{names} {parameter.metavar or ''}".strip().replace("|", "\\|")
        default = parameter.default if parameter.show_default and parameter.default not in (None, False, ()) else ""
        yield f"| `{metavar}` | {parameter.help or ''} | {getattr(default, 'value', default)} |"
