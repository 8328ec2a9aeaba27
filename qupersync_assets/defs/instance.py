"""The Dagster instance that commands share with Dagster's processes, and the heartbeat of its daemon."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import dagster as dg

from qupersync_assets.core.errors import message
from qupersync_assets.core.redaction import redacted
from qupersync_assets.defs.dagster_internals import open_instance
from qupersync_assets.serve.dagster_processes import HOME
from qupersync_assets.settings import Settings

# A daemon writes a heartbeat every 30 seconds, but not while it evaluates a sensor.
FRESH_SECONDS = 120.0


class InstanceError(RuntimeError):
    """The Dagster instance cannot be used; the message says why."""


def find_home() -> Path | None:
    """Return the folder of the instance: DAGSTER_HOME, else that of `make up` in this folder, else None.

    Raises:
        InstanceError: DAGSTER_HOME is not the absolute path of a folder.
    """
    named = os.environ.get("DAGSTER_HOME")
    if not named:
        return HOME.resolve() if (HOME / "dagster.yaml").exists() else None
    if not Path(named).is_absolute() or not Path(named).is_dir():
        raise InstanceError(f"DAGSTER_HOME={named!r}: allowed is the absolute path of a folder that is there.")
    return Path(named)


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


class Heartbeat(NamedTuple):
    """The last heartbeats of the daemon's threads."""

    fresh: bool  # whether all threads had one in the last FRESH_SECONDS
    age: float | None  # seconds since the oldest of the last heartbeats; None if a thread never had one
    text: str  # both as a clause


def heartbeat(instance: dg.DagsterInstance) -> Heartbeat:
    """Return the heartbeat of the daemon of an instance that is not ephemeral."""
    now = time.time()
    ages = {
        kind: now - status.last_heartbeat.timestamp if status.last_heartbeat else None
        for kind, status in instance.get_daemon_statuses().items()
    }
    known = [age for age in ages.values() if age is not None]
    age = max(known) if len(known) == len(ages) else None
    silent = sorted(kind for kind, age in ages.items() if age is None or age > FRESH_SECONDS)
    if not silent:
        return Heartbeat(True, age, f"the daemon's last heartbeat was {age or 0:.0f} s ago")
    of = "" if len(silent) == len(ages) else f" of its {', '.join(silent)}"
    when = f"the last heartbeat{of} was {age:.0f} s ago" if age else f"there never was a heartbeat{of}"
    return Heartbeat(False, age, f"no daemon is running: {when}")
