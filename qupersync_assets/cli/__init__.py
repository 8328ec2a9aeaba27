"""The command `qupersync`: one module a group of verbs.

What is slow to import is imported by the verb that needs it, so that `--help` and a mistyped verb answer at
once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qupersync_assets.cli.commands import doctor as setup
from qupersync_assets.cli.commands import metrics as serving
from qupersync_assets.cli.commands import purge as upkeep
from qupersync_assets.cli.commands import status as looking
from qupersync_assets.cli.commands import sync as syncing

ENV_FILE = Path(".env")

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)


@app.callback()
def main(
    env_file: Annotated[
        Path | None, typer.Option(help=f"File with settings, instead of {ENV_FILE} in this folder.")
    ] = None,
) -> None:
    """Keeps the health data of Redshift clusters fresh in PostgreSQL. Settings come from the environment, and
    from the file .env of this folder."""
    from dotenv import load_dotenv

    if env_file is not None and not env_file.is_file():
        raise typer.BadParameter(f"{env_file} is no file.", param_hint="--env-file")
    load_dotenv(env_file or ENV_FILE)


for verb in (
    syncing.sync,
    looking.status,
    looking.history,
    upkeep.purge,
    serving.metrics,
    setup.doctor,
    setup.migrate,
    serving.demo,
):
    app.command()(verb)
