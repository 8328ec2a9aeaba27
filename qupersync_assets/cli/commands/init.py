"""`qupersync init`: ask for the two logins, test them, and write the file of settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from qupersync_assets.cli.console import CommandError, Json, exit_on_errors, note, out, print_json, print_line
from qupersync_assets.core.redaction import redact

# What each login to Redshift needs; docs/installation.md has the privileges.
LOGINS = {
    "password": ("REDSHIFT_HOST", "REDSHIFT_DATABASE", "REDSHIFT_USER", "REDSHIFT_PASSWORD"),
    "iam": ("REDSHIFT_CLUSTER_IDENTIFIER", "REDSHIFT_REGION", "REDSHIFT_DATABASE", "REDSHIFT_USER"),
    "serverless": ("REDSHIFT_WORKGROUP", "REDSHIFT_REGION", "REDSHIFT_DATABASE"),
    "secret": ("REDSHIFT_SECRET_ARN",),
}
_POSTGRES = ("POSTGRES_HOST", "POSTGRES_DATABASE", "POSTGRES_USER", "POSTGRES_PASSWORD")


def init(
    values: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Settings; secrets belong in the environment.")
    ] = None,
    login: Annotated[
        str | None, typer.Option(metavar="KIND", help="Login to Redshift: password, iam, serverless or secret.")
    ] = None,
    file: Annotated[Path, typer.Option(metavar="FILE", help="File to write.")] = Path(".env"),
    force: Annotated[bool, typer.Option("--force", metavar="", help="Replace the file.")] = False,
    no_test: Annotated[bool, typer.Option("--no-test", metavar="", help="Write without testing the logins.")] = False,
    as_json: Json = False,
) -> None:
    """Write .env: ask for the logins of both databases, test them, and store them readable by this user only.

    It does not ask for settings in the environment, nor for those given as NAME=VALUE. Without a terminal, all must
    be given. If a login fails, nothing is written; in a terminal it asks again, and Enter keeps an answer.
    """
    with exit_on_errors(as_json):
        if file.exists() and not force:
            raise CommandError(f"{file} already exists: edit it, or replace it with --force.")
        given = {**{n: v for n, v in os.environ.items() if n in _variables() and v}, **_parse(values or ())}
        settings, answers = _complete(given, login, {})
        while not no_test:
            note("Logging in to both databases")
            if not (problem := _problem(settings)):
                break
            if not answers:
                raise CommandError(f"{problem}\nNothing was written; --no-test writes without a login.")
            print_line(out(stderr=True), problem, "red")
            note("Nothing was written. Enter keeps an answer, Ctrl-C ends.")
            settings, answers = _complete(given, login, answers)
        _write(file, settings)
        if as_json:
            print_json({"file": str(file.resolve()), "variables": sorted(settings), "tested": not no_test})
        else:
            out().print(f"Wrote {file}. Next: qupersync doctor, then qupersync up", soft_wrap=True, markup=False)


def _variables() -> Mapping[str, bool]:
    """Return the names of all settings, and whether each is a secret."""
    from qupersync_assets.settings import variables

    return {name: "SecretStr" in str(field.annotation) for name, field in variables().items()}


def _parse(values: Sequence[str]) -> dict[str, str]:
    known, parsed = _variables(), {}
    for text in values:
        name, separator, value = text.partition("=")
        if not separator:
            raise CommandError("Settings are given as NAME=VALUE.", exit_code=2)
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise CommandError(f"There is no setting {name}.{hint}", exit_code=2)
        if known[name]:
            raise CommandError(f"{name} is a secret, which other users see in a command line: set it in the "
                               "environment, or let `qupersync init` ask for it.", exit_code=2)  # fmt: skip
        parsed[name] = value
    return parsed


def _complete(
    given: Mapping[str, str], login: str | None, answers: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Ask for what is missing, with the answers of a former try; return the settings in the order of the file, and
    the answers."""
    interactive = sys.stdin.isatty()
    login = login or _login_of({**given, **answers})
    if login is None and interactive:
        known = ", ".join(LOGINS)
        login = typer.prompt(f"Login to Redshift ({known})", "password", value_proc=_login_kind, err=True)
    if login not in LOGINS:
        raise CommandError(f"Name the login to Redshift with --login: {', '.join(LOGINS)}.", exit_code=2)
    if login in ("iam", "serverless"):
        given = {**given, "REDSHIFT_IAM": "true"}
    wanted = [*LOGINS[login], *_POSTGRES]
    missing = [name for name in wanted if name not in given and name != "POSTGRES_PASSWORD"]
    if missing and not interactive:
        raise CommandError(f"Not a terminal: cannot ask for {', '.join(missing)}. Give secrets in the environment, and "
                           "others there or as NAME=VALUE.", exit_code=2)  # fmt: skip
    answers = dict(_ask([name for name in wanted if name not in given], answers)) if interactive else {}
    found = {**given, **answers}
    return {name: found[name] for name in dict.fromkeys([*wanted, *sorted(found)]) if found.get(name)}, answers


def _login_kind(text: str) -> str:
    if text.strip() not in LOGINS:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(LOGINS)}.")
    return text.strip()


def _login_of(given: Mapping[str, str]) -> str | None:
    """Return the login to which one of the given settings belongs."""
    of = {"secret": "SECRET_ARN", "serverless": "WORKGROUP", "iam": "CLUSTER_IDENTIFIER", "password": "PASSWORD"}
    return next((login for login, name in of.items() if f"REDSHIFT_{name}" in given), None)


def _ask(names: Sequence[str], earlier: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    from qupersync_assets.settings import variables

    for name in names:
        field, secret = variables()[name], _variables()[name]
        note(f"\n{field.description}")
        example = "" if secret or not field.examples else str(field.examples[0])
        default = example if name.startswith("POSTGRES_") or name == "REDSHIFT_DATABASE" else None
        default = earlier.get(name, default)
        shown = bool(default) and not secret
        yield name, typer.prompt(name, default, hide_input=secret, show_default=shown, err=True).strip()


def _problem(settings: Mapping[str, str]) -> str:
    """Return why the settings are wrong, or a login fails; "" if both logins work."""
    from qupersync_assets.core.errors import SyncError
    from qupersync_assets.postgres.resource import PostgresResource
    from qupersync_assets.serve.logins import login_error
    from qupersync_assets.settings import Settings, SettingsError

    os.environ.update(settings)
    try:
        loaded = Settings.load()
    except SettingsError as error:
        return str(error)
    errors = [found for source in loaded.by_cluster().values() if (found := login_error(source))]
    try:
        with PostgresResource(loaded).transaction():
            pass
    except SyncError as error:
        errors.append(error)
    return redact("\n".join(map(str, errors)))


def _write(file: Path, settings: Mapping[str, str]) -> None:
    from qupersync_assets.core.environment import write_private

    if broken := [name for name, value in settings.items() if "\n" in value or "\0" in value]:
        raise CommandError(f"{', '.join(broken)} has several lines, which a file of settings cannot hold.")
    lines = ["# Written by `qupersync init`. All settings: docs/reference/settings.md.\n"]
    for name, value in settings.items():
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"{name}='{quoted}'\n")
    try:
        write_private(file, "".join(lines))
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}.") from None
