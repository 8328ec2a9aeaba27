"""The Dagster instance that commands share with Dagster's processes, and the heartbeat of its daemon."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC

import dagster as dg

from qupersync_assets.core.errors import InstanceError, message
from qupersync_assets.core.redaction import redacted
from qupersync_assets.defs.dagster_internals import open_instance
from qupersync_assets.settings import Settings
from qupersync_assets.sync.dagster_state import SCHEDULE_NAME, DagsterState, Heartbeat, find_home, heartbeat_of


@contextmanager
def configured_instance(settings: Settings, *, captures_output: bool = True) -> Iterator[dg.DagsterInstance | None]:
    """Open the instance of `find_home`; None without one.

    Without `captures_output`, stdout and stderr of steps stay those of this process, whatever dagster.yaml says.

    Raises:
        InstanceError: its configuration is wrong, or its storage cannot be reached.
    """
    home = find_home()
    if home is None:
        yield None
        return
    # A dagster.yaml of the user may read variables that have defaults.
    for name, value in {"POSTGRES_PASSWORD": "", **settings.environment()}.items():
        os.environ.setdefault(name, value)
    try:
        instance = open_instance(home, captures_output=captures_output)
    except Exception as error:
        # What Dagster raises after its attempts does not say why they failed.
        text = f"The Dagster instance of {home} cannot be used: {message(error.__cause__ or error)}"
        raise InstanceError(text) from redacted(error)
    with instance:
        yield instance


def is_switched_on(instance: dg.DagsterInstance, name: str, *, by_default: bool = True) -> bool:
    """Return whether a schedule or sensor is running that is running, or stopped, by default."""
    # Dagster stores a state once a user has switched it.
    states = [state for state in instance.all_instigator_state() if state.instigator_name == name]
    return all(state.is_running for state in states) if states else by_default


def heartbeat(instance: dg.DagsterInstance) -> Heartbeat:
    """Return the heartbeat of the daemon of an instance that is not ephemeral."""
    now = time.time()
    statuses = instance.get_daemon_statuses().items()
    return heartbeat_of({k: now - s.last_heartbeat.timestamp if s.last_heartbeat else None for k, s in statuses})


def read_state(instance: dg.DagsterInstance, schedule: str = SCHEDULE_NAME) -> DagsterState:
    """Return the state of an instance, whatever its storage is."""
    queued = None
    runs = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])
    for record in instance.get_run_records(runs, limit=1, ascending=True):
        since = record.create_timestamp
        queued = record.dagster_run.run_id, since if since.tzinfo else since.replace(tzinfo=UTC)
    return DagsterState(is_switched_on(instance, schedule), heartbeat(instance), queued)
