"""Reads what commands print about Dagster, from the tables of its storage if possible: see `sync.dagster_state`."""

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets.sync.dagster_state import DagsterState, find_home, is_in_target, read_target


def dagster_state(settings: Settings, postgres: PostgresResource) -> DagsterState | None:
    """Return the state of the instance of DAGSTER_HOME, or of `make up` in this folder; None without one.

    Raises:
        InstanceError: DAGSTER_HOME is wrong, or the storage of the instance cannot be reached.
        SyncError: PostgreSQL cannot be reached.
    """
    home = find_home()
    if home is None:
        return None
    if is_in_target(home) and (state := read_target(postgres)):
        return state
    from qupersync_assets.defs.instance import configured_instance, read_state

    with configured_instance(settings, captures_output=False) as instance:
        return read_state(instance) if instance else None
