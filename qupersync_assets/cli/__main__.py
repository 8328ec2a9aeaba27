"""`python -m qupersync_assets.cli`: the command `qupersync` of this Python."""

from qupersync_assets.cli import app

app()
