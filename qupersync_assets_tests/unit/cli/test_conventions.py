"""The conventions of https://clig.dev that each verb follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from qupersync_assets.cli import app
from qupersync_assets.cli.documents import DOCUMENTS


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "80", "NO_COLOR": "1"})


def verbs(group: Any = None, before: str = "") -> Iterator[str]:
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        yield before + name
        yield from verbs(command, f"{before}{name} ") if hasattr(command, "commands") else ()


@pytest.mark.parametrize("verb", ["", *verbs()])
def test_help_is_for_people_and_fits_eighty_columns(verb: str) -> None:
    short, long = run(*verb.split(), "-h"), run(*verb.split(), "--help")
    assert short.exit_code == 0 and short.stdout == long.stdout
    assert max(map(len, short.stdout.splitlines())) <= 80
    assert not any(text in short.stdout for text in ("<bool>", "<list", "<str>", "<int", "range", "\x1b"))


def test_every_verb_has_a_documented_json() -> None:
    assert set(verbs()) - {"mcp"} == DOCUMENTS.keys()  # whose output is for MCP clients


def untyped(schema: Any, path: str = "") -> Iterator[str]:
    """Yield the keys of a JSON schema that may have any value."""
    parts = schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ()
    for name, part in parts:
        if path.endswith("/properties") and not {"type", "anyOf", "$ref", "enum", "const"} & part.keys():
            yield f"{path}/{name}"
        yield from untyped(part, f"{path}/{name}")


@pytest.mark.parametrize("verb", DOCUMENTS)
def test_every_key_of_a_json_has_a_type(verb: str) -> None:
    schema = DOCUMENTS[verb].model_json_schema()
    assert list(untyped(schema)) == []
    assert [*untyped({"properties": {"a": {"title": "A"}}})] == ["/properties/a"]


def test_version_is_printed() -> None:
    done = run("--version")
    assert done.exit_code == 0 and done.stdout.startswith("qupersync ") and done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["statsu"], "Did you mean 'status'?"),
        (
            ["history", "--job", "query_histroy_sync"],
            "There is no job query_histroy_sync. Did you mean query_history_sync?",
        ),
        (["history", "--status", "sucess"], "canceled, unavailable or skipped. Did you mean success?"),
        (["health", "--severity", "critcal"], "is not critical, warning or info. Did you mean critical?"),
        (["history", "--since", "soon"], "is neither an ISO 8601 time"),
        (["purge", "--older-than", "soon"], "is not a duration"),
        (["--env-file", "/nowhere", "status"], "/nowhere is not a file."),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2 and not done.stdout
    text = " ".join(done.stderr.replace("│", " ").split())
    assert words in text and "Value error" not in text and "Traceback" not in text


def test_a_shell_completes_verbs_and_jobs() -> None:
    def complete(words: str) -> list[str]:
        variables = {"_ROOT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        return CliRunner().invoke(app, [], env=variables, prog_name="root").stdout.split()

    assert complete("root healt") == ["health"]
    assert "query_history_sync" in complete("root sync query_h")
