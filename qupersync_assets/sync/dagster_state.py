"""What the installation must know of Dagster: whether the schedule is on, the daemon runs and queued runs start.

It is read from the tables of Dagster's storage if that is in the target database: `import dagster` alone takes longer
than a command may. Of other storages, `defs.instance` reads it through Dagster.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from qupersync_assets.core.environment import DAGSTER_FOLDER
from qupersync_assets.core.errors import InstanceError
from qupersync_assets.postgres.connection import URL
from qupersync_assets.postgres.resource import PostgresResource

SCHEDULE_NAME = "qupersync_main_schedule"
# A daemon writes a heartbeat every 30 seconds, but not while it evaluates a sensor.
FRESH_SECONDS = 120.0
# The threads of the daemon that each instance has; their names in Dagster's storage.
_THREADS = ("SCHEDULER", "SENSOR")


@dataclass(frozen=True)
class Heartbeat:
    """The last heartbeats of the daemon's threads."""

    fresh: bool  # whether all threads had one in the last FRESH_SECONDS
    age: float | None  # seconds since the oldest of the last heartbeats; None if a thread never had one
    text: str  # both as a clause


@dataclass(frozen=True)
class DagsterState:
    """The state of a Dagster instance."""

    schedule_on: bool
    heartbeat: Heartbeat
    queued_run: tuple[str, datetime] | None  # id and creation of the oldest queued run


def heartbeat_of(ages: Mapping[str, float | None]) -> Heartbeat:
    """Return the heartbeat of a daemon from the seconds since the last one of each thread; None: it never had one."""
    known = [age for age in ages.values() if age is not None]
    age = max(known) if len(known) == len(ages) else None
    silent = sorted(kind for kind, age in ages.items() if age is None or age > FRESH_SECONDS)
    if not silent:
        return Heartbeat(True, age, f"the daemon's last heartbeat was {age or 0:.0f} s ago")
    of = "" if len(silent) == len(ages) else f" of its {', '.join(silent)}"
    when = f"the last heartbeat{of} was {age:.0f} s ago" if age else f"there never was a heartbeat{of}"
    return Heartbeat(False, age, f"no daemon is running: {when}")


def find_home() -> Path | None:
    """Return the folder of the instance: DAGSTER_HOME, else that of `make up` in this folder, else None.

    Raises:
        InstanceError: DAGSTER_HOME is not the absolute path of a folder.
    """
    named = os.environ.get("DAGSTER_HOME")
    if not named:
        return DAGSTER_FOLDER.resolve() if (DAGSTER_FOLDER / "dagster.yaml").exists() else None
    if not Path(named).is_absolute() or not Path(named).is_dir():
        raise InstanceError(f"DAGSTER_HOME={named!r}: allowed is the absolute path of a folder that is there.")
    return Path(named)


def is_in_target(home: Path) -> bool:
    """Return whether the storage of an instance is in the target database, over the connection of POSTGRES_*."""
    import yaml  # few commands need it

    try:
        configured = yaml.safe_load((home / "dagster.yaml").read_bytes())
    except (OSError, yaml.YAMLError):
        return False  # Dagster says why
    storage = configured.get("storage") if isinstance(configured, dict) else None
    return repr(URL) in repr(storage)


# https://github.com/dagster-io/dagster/tree/master/python_modules/dagster/dagster/_core/storage: the tables of
# Dagster's storage, whose times are in UTC. A schedule that no user has switched has no row.
_STATE = sa.text(
    """
    SELECT now(),
           (SELECT bool_and(status <> 'STOPPED') FROM instigators
            WHERE instigator_type = 'SCHEDULE' AND instigator_body::jsonb #>> '{origin,job_name}' = :schedule),
           ARRAY(SELECT daemon_type || ' ' || extract(epoch FROM now() - timestamp AT TIME ZONE 'UTC')
                 FROM daemon_heartbeats WHERE daemon_type = ANY (:threads)),
           queued.run_id, queued.since
    FROM (SELECT) AS always LEFT JOIN LATERAL (
        SELECT run_id, create_timestamp AT TIME ZONE 'UTC' AS since
        FROM runs WHERE status = 'QUEUED' ORDER BY id LIMIT 1
    ) AS queued ON true
    """
)
_HAS_TABLES = sa.text("SELECT to_regclass('instigators') IS NOT NULL AND to_regclass('daemon_heartbeats') IS NOT NULL")


def read_target(postgres: PostgresResource) -> DagsterState | None:
    """Return the state of the instance whose storage is in the target database; None if Dagster never ran there.

    Raises:
        SyncError: PostgreSQL cannot be reached.
    """
    with postgres.transaction() as connection:
        if not connection.execute(_HAS_TABLES).scalar_one():
            return None
        names = {"schedule": SCHEDULE_NAME, "threads": list(_THREADS)}
        _, is_on, beats, run_id, since = connection.execute(_STATE, names).one()
    ages: dict[str, float | None] = dict.fromkeys(_THREADS)
    ages |= {kind: float(age) for kind, _, age in (beat.partition(" ") for beat in beats)}
    return DagsterState(is_on is not False, heartbeat_of(ages), (run_id, since.astimezone(UTC)) if run_id else None)
