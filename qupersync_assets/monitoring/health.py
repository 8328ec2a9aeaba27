"""Checks whether PostgreSQL answers, Dagster's daemon runs and, on request, Redshift answers."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg
import sqlalchemy as sa

from qupersync_assets.core.errors import InstanceError, SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.defs.instance import configured_instance, heartbeat, read_state
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.settings import Settings
from qupersync_assets.sync.operations import find_problems

# An answer of Redshift is cached: a query wakes a paused Serverless workgroup, which is billed for at least a minute
# (https://docs.aws.amazon.com/redshift/latest/mgmt/serverless-billing.html).
REDSHIFT_SECONDS = 60.0
Finding = dict[str, Any]


@dataclass
class Health:
    """Checks on request, one request at a time."""

    _settings: Settings
    _postgres: PostgresResource
    _redshifts: Mapping[str, RedshiftResource]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _cache: dict[str, tuple[float, Finding]] = field(default_factory=dict)
    _since: datetime = field(default_factory=lambda: datetime.now(UTC))
    _instance: dg.DagsterInstance | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def check(self, *, with_redshift: bool = False) -> tuple[bool, dict[str, Any]]:
        """Return whether everything is healthy, and `ok` and `detail` of each part; Redshift is contacted on request
        only."""
        with self._lock:
            postgres = _tried(self._postgres.check)
            redshift = {name: self._redshift(name) for name in self._redshifts if with_redshift}
            daemon = self._daemon() if postgres["ok"] else _finding(False, "unknown: PostgreSQL does not answer")
            syncs = self._syncs() if postgres["ok"] and daemon["ok"] else _finding(False, "unknown")
        ok = all(finding["ok"] for finding in (postgres, daemon, syncs, *redshift.values()))
        contacted = {"redshift": redshift} if with_redshift else {}
        return ok, {"ok": ok, "postgres": postgres, **contacted, "daemon": daemon, "syncs": syncs}

    def close(self) -> None:
        """Close the Dagster instance, if one was opened."""
        self._stack.close()

    def _redshift(self, name: str) -> Finding:
        cached = self._cache.get(name)
        if cached is None or time.monotonic() - cached[0] >= REDSHIFT_SECONDS:
            cached = self._cache[name] = (time.monotonic(), _tried(partial(_log_in, self._redshifts[name])))
        asked_at, finding = cached
        return {**finding, "asked_seconds_ago": round(time.monotonic() - asked_at, 1)}

    def _daemon(self) -> Finding:
        try:
            if self._instance is None:
                self._instance = self._stack.enter_context(configured_instance(self._settings))
            if self._instance is None:
                return _finding(False, "unknown: DAGSTER_HOME is not set")
            pulse = heartbeat(self._instance)
        except InstanceError as error:
            return _finding(False, str(error))
        except Exception as error:  # of whichever storage the instance has
            return _finding(False, f"unknown: {type(error).__name__}: {error}")
        return {**_finding(pulse.fresh, pulse.text), "heartbeat_seconds": pulse.age}

    def _syncs(self) -> Finding:
        """Look for a schedule that is off, a queue that does not move, and successes that are missing."""
        try:
            if self._instance is None:
                return _finding(False, "unknown")
            found = find_problems(
                read_state(self._instance), self._postgres, self._settings, self._since, with_failed=True
            )
        except Exception as error:  # of whichever storage the instance has
            return _finding(False, f"unknown: {type(error).__name__}: {error}")
        return _finding(not found, " ".join(map(str, found)) or "no success is missing")


def _log_in(redshift: RedshiftResource) -> None:
    """Open a session: a new one logs in, a pooled one is tested with a query."""
    with redshift.session():
        pass


def _tried(connect: Callable[[], None]) -> Finding:
    try:
        connect()
    except (SyncError, sa.exc.SQLAlchemyError) as error:
        return _finding(False, str(error))
    return _finding(True, "answers")


def _finding(ok: bool, detail: str) -> Finding:
    return {"ok": ok, "detail": redact(detail)}
