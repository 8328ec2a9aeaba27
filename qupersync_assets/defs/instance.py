"""The Dagster instance that a command of ours uses beside Dagster's own processes, and its daemon's
heartbeat."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from qupersync_assets.core.redaction import redact, redacted
from qupersync_assets.defs.dagster_internals import open_instance
from qupersync_assets.settings import Settings

# Where `make up` and `make demo` keep it, unless DAGSTER_HOME names another folder.
HOME = Path(".qupersync/dagster")
# A daemon writes one every 30 seconds, but not while it evaluates a sensor; Dagster itself waits half an
# hour.
FRESH_SECONDS = 120.0


class InstanceError(RuntimeError):
    """The Dagster instance cannot be used; the text says why."""


def find_home() -> Path | None:
    """The folder of the instance: DAGSTER_HOME, else the one of `make up` in this folder; None if there is
    none.

    Raises:
        InstanceError: DAGSTER_HOME is not the absolute path of a folder.
    """
    named = os.environ.get("DAGSTER_HOME")
    if not named:
        return HOME.resolve() if (HOME / "dagster.yaml").exists() else None
    if not Path(named).is_absolute() or not Path(named).is_dir():
        raise InstanceError(
            f"DAGSTER_HOME={named!r}: allowed is the absolute path of a folder that is there."
        )
    return Path(named)


@contextmanager
def configured_instance(
    settings: Settings, *, captures_output: bool = True
) -> Iterator[dg.DagsterInstance | None]:
    """The instance of `find_home`, None if there is none.

    Args: captures_output: whether what steps write to stdout and stderr goes to Dagster's files, as
        dagster.yaml says; otherwise it stays where this process writes.

    Raises:
        InstanceError: there is one, but its configuration is wrong or its storage cannot be reached.
    """
    home = find_home()
    if home is None:
        yield None
        return
    # Its dagster.yaml reads some of them: defaults have to be there too.
    for name, value in {"POSTGRES_PASSWORD": "", **settings.environment()}.items():
        os.environ.setdefault(name, value)
    try:
        instance = open_instance(home, captures_output=captures_output)
    except Exception as error:
        text = redact(f"The Dagster instance of {home} cannot be used: {error}")
        raise InstanceError(text) from redacted(error)
    with instance:
        yield instance


@dataclass(frozen=True)
class Heartbeat:
    """What the daemon of an instance has last told of itself.

    Attributes: age: seconds since the last heartbeat of that of its threads which has been silent longest;
        None if one of them never had any. silent: the threads that have been silent for more than
        FRESH_SECONDS. threads: how many the instance needs.
    """

    age: float | None
    silent: list[str]
    threads: int

    @property
    def fresh(self) -> bool:
        """Whether the daemon lives, as far as one can tell."""
        return not self.silent

    def __str__(self) -> str:
        if self.fresh:
            return f"the daemon's last heartbeat was {self.age or 0:.0f} s ago"
        who = "" if len(self.silent) == self.threads else f" of its {', '.join(self.silent)}"
        when = "there never was a heartbeat" if self.age is None else "the last heartbeat"
        return f"no daemon is running: {when}{who}" + (f" was {self.age:.0f} s ago" if self.age else "")


def heartbeat(instance: dg.DagsterInstance) -> Heartbeat:
    """The daemon's heartbeat; the instance is not an ephemeral one."""
    now = time.time()
    ages = {
        kind: now - status.last_heartbeat.timestamp if status.last_heartbeat else None
        for kind, status in instance.get_daemon_statuses().items()
    }
    known = [age for age in ages.values() if age is not None]
    silent = sorted(kind for kind, age in ages.items() if age is None or age > FRESH_SECONDS)
    return Heartbeat(max(known) if len(known) == len(ages) else None, silent, len(ages))
