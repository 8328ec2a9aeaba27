"""The command `qupersync`: one module per verb.

A verb imports slow modules inside its function: `--help` and a mistyped verb answer at once. No verb imports Dagster
unless it needs a Dagster instance.
"""

from pathlib import Path
from typing import Annotated

import typer

from qupersync_assets.cli.commands.clusters import clusters
from qupersync_assets.cli.commands.demo import demo
from qupersync_assets.cli.commands.doctor import doctor
from qupersync_assets.cli.commands.health import health
from qupersync_assets.cli.commands.history import history
from qupersync_assets.cli.commands.init import init
from qupersync_assets.cli.commands.mcp import mcp
from qupersync_assets.cli.commands.metrics import metrics
from qupersync_assets.cli.commands.migrate import migrate
from qupersync_assets.cli.commands.purge import purge
from qupersync_assets.cli.commands.status import status
from qupersync_assets.cli.commands.sync import sync
from qupersync_assets.cli.commands.up import up
from qupersync_assets.cli.console import Quiet, set_quiet
from qupersync_assets.cli.parser import HELP_OPTIONS, Group, Verb

app = typer.Typer(
    cls=Group,
    context_settings=HELP_OPTIONS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(shown: bool) -> None:
    if shown:
        from importlib.metadata import version

        typer.echo(f"qupersync {version('qupersync')}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    env_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with settings, instead of .env in this folder.")
    ] = None,
    quiet: Quiet = False,
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Sync the health data of Redshift clusters into PostgreSQL. Settings are read from the environment and,
    if they are not set there, from the file .env in this folder."""
    from qupersync_assets.core.environment import ENV_FILE, EnvFileError, load_env_file

    set_quiet(quiet)
    if env_file is not None and not env_file.is_file():
        raise typer.BadParameter(f"{env_file} is not a file.", param_hint="--env-file")
    if context.invoked_subcommand in ("demo", "init") and env_file is None:
        return  # the sandbox has settings of its own, and `init` writes the file
    try:
        load_env_file(env_file or ENV_FILE)
    except EnvFileError as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None


for verb in (init, up, sync, status, health, history, purge, metrics, doctor, migrate, mcp, demo):
    app.command(cls=Verb)(verb)
app.add_typer(clusters, name="clusters")
