"""Whether both databases answer, and whether Dagster's daemon lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import dagster as dg
import sqlalchemy as sa

from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.defs.instance import InstanceError, configured_instance, heartbeat
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.settings import Settings

# How long an answer of Redshift holds: Serverless charges for the seconds in which it is asked.
REDSHIFT_SECONDS = 60.0

Finding = dict[str, Any]


class Health:
    """Looks when it is asked; of several askers at once one looks, and the others get its answer after
    theirs.

    Attributes:
        redshifts: by the name of the cluster.
    """

    def __init__(
        self,
        settings: Settings,
        postgres: PostgresResource,
        redshifts: Mapping[str, RedshiftResource],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.redshifts = redshifts
        self._settings = settings
        self._postgres = postgres
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Finding]] = {}
        self._instance: dg.DagsterInstance | None = None
        self._stack = ExitStack()

    def look(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and what was found of each: `ok`, and `detail` for people."""
        with self._lock:
            postgres = self._ask_postgres()
            redshift = {name: self._redshift(name) for name in self.redshifts}
            daemon = (
                self._daemon() if postgres["ok"] else _finding(False, "unknown: PostgreSQL does not answer")
            )
        ok = all(finding["ok"] for finding in (postgres, daemon, *redshift.values()))
        return ok, {"ok": ok, "postgres": postgres, "redshift": redshift, "daemon": daemon}

    def close(self) -> None:
        """Close the Dagster instance, if one was opened."""
        self._stack.close()

    def _ask_postgres(self) -> Finding:
        try:
            with self._postgres.transaction() as connection:
                connection.execute(sa.text("SELECT 1"))
        except (SyncError, sa.exc.SQLAlchemyError) as error:
            return _finding(False, str(error))
        return _finding(True, "answers")

    def _redshift(self, name: str) -> Finding:
        known = self._known.get(name)
        if known is None or self._clock() - known[0] >= REDSHIFT_SECONDS:
            known = self._known[name] = (self._clock(), self._ask_redshift(self.redshifts[name]))
        asked_at, finding = known
        return {**finding, "asked_seconds_ago": round(self._clock() - asked_at, 1)}

    def _ask_redshift(self, redshift: RedshiftResource) -> Finding:
        try:
            with redshift.session() as session:
                session.rows("SELECT 1")
        except SyncError as error:
            return _finding(False, str(error))
        return _finding(True, "answers")

    def _daemon(self) -> Finding:
        try:
            if self._instance is None:
                self._instance = self._stack.enter_context(configured_instance(self._settings))
            if self._instance is None:
                return _finding(False, "unknown: DAGSTER_HOME is not set")
            pulse = heartbeat(self._instance)
        except InstanceError as error:
            return _finding(False, str(error))
        except Exception as error:  # of Dagster's storage, whichever it is
            return _finding(False, f"unknown: {type(error).__name__}: {error}")
        return {**_finding(pulse.fresh, str(pulse)), "heartbeat_seconds": pulse.age}


def _finding(ok: bool, detail: str) -> Finding:
    return {"ok": ok, "detail": redact(detail)}
