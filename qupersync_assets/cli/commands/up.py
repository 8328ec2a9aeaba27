"""`qupersync up`: webserver, daemon and schedule for the databases of the settings."""

import os
import sys
from typing import Annotated

import typer

from qupersync_assets.cli.console import Json, exit_on_errors


def up(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, metavar="PORT", help="Port of the Dagster UI, instead of UI_PORT.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve the Dagster UI and run the schedule until Ctrl-C, like `make up`.

    It tests both logins first. Dagster's files and logs are in .qupersync in this folder; dagster.yaml and
    workspace.yaml of this folder are used, else those of the package. The exit code is 78 if a login is refused.
    """
    with exit_on_errors(as_json):
        if port is not None:
            os.environ["UI_PORT"] = str(port)
        # The service replaces this process, so that signals reach it.
        command = [sys.executable, "-m", "qupersync_assets.serve", *(["--json"] if as_json else [])]
        os.execv(sys.executable, command)  # noqa: S606
