"""The code location that workspace.yaml names: the definitions of the settings in the environment."""

from functools import lru_cache

import dagster as dg

from qupersync_assets.component import build_placed_defs
from qupersync_assets.core.environment import env_file_hint
from qupersync_assets.core.log_format import configure_logs
from qupersync_assets.defs.names import STANDALONE
from qupersync_assets.settings import Settings, SettingsError


@lru_cache(maxsize=1)
def build_code_location(settings: Settings) -> dg.Definitions:
    """Build all definitions for the given settings; a process forked from this one inherits them."""
    return build_placed_defs(settings, STANDALONE)


@dg.definitions
def defs() -> dg.Definitions:
    """Build the definitions when Dagster loads the code location, not when this module is imported."""
    try:
        settings = Settings.load()
    except SettingsError as error:
        raise error.with_hint(env_file_hint()) from None  # Dagster shows the stack of an error
    configure_logs(settings.log_format)
    return build_code_location(settings)
