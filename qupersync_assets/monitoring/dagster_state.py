"""The state of Dagster for the metrics: the daemon's heartbeat and the schedule."""

import logging
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

import dagster as dg

from qupersync_assets.core.redaction import redact
from qupersync_assets.defs.instance import configured_instance, read_state
from qupersync_assets.settings import Settings
from qupersync_assets.sync.dagster_state import DagsterState

# The daemon writes a heartbeat every 30 seconds; Dagster's storage is asked through its interface, with several
# statements.
CACHE_SECONDS = 30.0
_log = logging.getLogger(__name__)


@dataclass
class DagsterReader:
    """Reads the state of the configured instance, at most every CACHE_SECONDS, one request at a time."""

    _settings: Settings
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stack: ExitStack = field(default_factory=ExitStack)
    _instance: dg.DagsterInstance | None = None
    _state: DagsterState | None = None
    _read_at: float = -CACHE_SECONDS

    def read(self) -> DagsterState | None:
        """Return the state; None if there is no instance or it cannot be read, which is logged."""
        with self._lock:
            if self._state is None or time.monotonic() - self._read_at >= CACHE_SECONDS:
                try:
                    self._state = self._read()
                    self._read_at = time.monotonic()
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
        return read_state(self._instance)
