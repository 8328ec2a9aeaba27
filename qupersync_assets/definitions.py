"""The code location that workspace.yaml names: the definitions of the settings in the environment."""

from functools import lru_cache

import dagster as dg

from qupersync_assets.alerts.health_digest import build_digests
from qupersync_assets.alerts.sensors import build_alerts
from qupersync_assets.core.log_format import configure_logs
from qupersync_assets.defs import build_definitions
from qupersync_assets.settings import Settings
from qupersync_assets.sync_jobs import all_specs


@lru_cache(maxsize=1)
def build_code_location(settings: Settings) -> dg.Definitions:
    """Build all definitions for the given settings; a process forked from this one inherits them."""
    alerts = dg.Definitions(sensors=[*build_alerts(all_specs(), settings), *build_digests(settings)])
    return dg.Definitions.merge(build_definitions(settings), alerts)


@dg.definitions
def defs() -> dg.Definitions:
    """Build the definitions when Dagster loads the code location, not when this module is imported."""
    settings = Settings.load()
    configure_logs(settings.log_format)
    return build_code_location(settings)
