"""The state of Dagster for the metrics: the daemon's heartbeat, the schedule, and the latest checks."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from qupersync_assets.core.redaction import redact
from qupersync_assets.defs.check_results import Checks, latest_checks
from qupersync_assets.defs.instance import configured_instance, heartbeat, is_switched_on
from qupersync_assets.defs.schedules import SCHEDULE_NAME
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec

# The daemon writes a heartbeat every 30 seconds; Dagster's storage is asked through its interface, with several
# statements.
CACHE_SECONDS = 30.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DagsterState:
    """The state of a Dagster instance at some time."""

    heartbeat_age: float | None  # seconds since the oldest of the last heartbeats; None if a thread never had one
    schedule_on: bool
    checks: Checks
    read_at: float = field(default_factory=time.monotonic)


@dataclass
class DagsterReader:
    """Reads the state of the configured instance, at most every CACHE_SECONDS, one request at a time."""

    _settings: Settings
    _jobs: Mapping[str, Sequence[SyncSpec]]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stack: ExitStack = field(default_factory=ExitStack)
    _instance: dg.DagsterInstance | None = None
    _state: DagsterState | None = None

    def read(self) -> DagsterState | None:
        """Return the state; None if there is no instance or it cannot be read, which is logged."""
        with self._lock:
            if self._state is None or time.monotonic() - self._state.read_at >= CACHE_SECONDS:
                try:
                    self._state = self._read()
                except Exception as error:  # of whichever storage the instance has
                    self._state = None
                    _log.warning("Dagster's storage cannot be read: %s", redact(f"{type(error).__name__}: {error}"))
            return self._state

    def close(self) -> None:
        """Close the Dagster instance, if one was opened."""
        self._stack.close()

    def _read(self) -> DagsterState | None:
        if self._instance is None:
            self._instance = self._stack.enter_context(configured_instance(self._settings))
        if self._instance is None:
            return None
        checks: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        for cluster, specs in self._jobs.items():
            checks |= latest_checks(self._instance, self._settings, [cluster], specs)
        return DagsterState(heartbeat(self._instance).age, is_switched_on(self._instance, SCHEDULE_NAME), checks)
