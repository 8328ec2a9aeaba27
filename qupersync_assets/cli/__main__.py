"""`python -m qupersync_assets.cli`: the command `qupersync` with this Python."""

from qupersync_assets.cli import app

app()
