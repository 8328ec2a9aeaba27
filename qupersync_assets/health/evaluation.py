"""Evaluates the health of a cluster in one transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from qupersync_assets.core.redaction import redact
from qupersync_assets.health import all_signals, group_of, groups
from qupersync_assets.health.findings import CREATE_FOUND, find, write_found
from qupersync_assets.health.freshness import Readiness, SignalStatus, read_readiness
from qupersync_assets.health.options import HealthOptions
from qupersync_assets.health.query_sums import update_sums
from qupersync_assets.postgres.health_tables import HEALTH_EVALUATIONS, HEALTH_SIGNALS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.postgres.sync_logs import SYNC_LOGS

STATEMENT_SECONDS = 60
_log = logging.getLogger(__name__)

# Compilation costs more than it gains; a larger work_mem keeps sorts and hashes in memory.
_SESSION = (
    f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'",
    "SET LOCAL jit = off",
    "SET LOCAL work_mem = '64MB'",
)
# The first key of the advisory locks of evaluations; an arbitrary number.
_LOCK = 0x68656C74


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation did.

    Attributes:
        reason: why nothing was evaluated; empty if it was.
        opened: findings that are new, or returned after they were resolved.
        resolved: findings that were resolved.
        signals: the status of each signal.
        seconds: duration.
    """

    reason: str = ""
    opened: int = 0
    resolved: int = 0
    signals: Mapping[str, Readiness] = field(default_factory=dict)
    seconds: float = 0.0


def evaluate(
    postgres: PostgresResource,
    cluster: str,
    options: HealthOptions,
    *,
    now: datetime | None = None,
    always: bool = False,
) -> Evaluation:
    """Evaluate the signals of a cluster and write the findings, in one transaction.

    Nothing is evaluated if no row was written since the last evaluation in the same hour, unless `always` is true.
    `now` is the time of the evaluation, that of PostgreSQL's clock by default.

    Raises:
        SyncError: PostgreSQL cannot be reached, the schema cannot be migrated, or a statement takes too long. Nothing
            is changed.
    """
    ensure_schema(postgres)
    started = time.monotonic()
    with postgres.transaction() as connection:
        for statement in _SESSION:
            connection.execute(sa.text(statement))
        # One evaluation of a cluster at a time.
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK}, hashtext(:cluster))"), {"cluster": cluster})
        now = now or connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        if not always and (reason := why_not(connection, cluster, options, now)):
            return Evaluation(reason, seconds=time.monotonic() - started)
        update_sums(connection, cluster, now)
        signals = _find_all(connection, cluster, options, now)
        unsure = [id_ for id_, ready in signals.items() if not _may_resolve(ready)]
        opened, resolved = write_found(connection, cluster, now, unsure)
        _write_signals(connection, cluster, signals, options)
        seconds = time.monotonic() - started
        _write_evaluation(connection, cluster, options, now, seconds)
    return Evaluation("", opened, resolved, signals, seconds)


def _may_resolve(ready: Readiness) -> bool:
    """Return whether findings that a signal no longer makes are resolved: also those of a signal that is off."""
    if ready.status is SignalStatus.EVALUATED:
        return ready.may_resolve
    return ready.status in (SignalStatus.OFF, SignalStatus.NOT_AVAILABLE)


def why_not(connection: sa.Connection, cluster: str, options: HealthOptions, now: datetime) -> str:
    """Return why there is nothing to evaluate, or an empty text."""
    columns = HEALTH_EVALUATIONS.c
    last = connection.execute(
        sa.select(columns.evaluated_at, columns.settings_md5).where(columns.cluster == cluster)
    ).first()
    if last is None or last.settings_md5 != options.md5 or _hour(last.evaluated_at) != _hour(now):
        return ""
    log = SYNC_LOGS.c
    # A load takes less than a day; started_at has an index.
    ended = (log.cluster == cluster) & (log.completed_at > last.evaluated_at)
    ended &= log.started_at > last.evaluated_at - timedelta(days=1)
    written = log.rows_inserted + log.rows_updated + log.rows_removed > 0
    if connection.scalar(sa.select(sa.exists().where(ended, written))):
        return ""
    return f"No row was written since the last evaluation, at {last.evaluated_at.astimezone(UTC):%H:%M:%S} UTC."


def _hour(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _find_all(connection: sa.Connection, cluster: str, options: HealthOptions, now: datetime) -> dict[str, Readiness]:
    """Run each signal that can be evaluated; return the status of all."""
    found = read_readiness(connection, cluster, list(all_signals().values()), options, now)
    # Values that depend on the time change by the hour, so that they do not change when nothing else does.
    parameters = {"cluster": cluster, "now": _hour(now), "large_rows": options.large_rows}
    connection.execute(sa.text(CREATE_FOUND))
    for group in groups().values():
        ready = [signal for signal in group.signals if found[signal.id].status is SignalStatus.EVALUATED]
        for name, sql in group.prepared.items() if ready else ():
            connection.execute(sa.text(f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS {sql}"), parameters)
        for signal in ready:
            try:
                with connection.begin_nested():
                    find(connection, cluster, signal, options, _hour(now))
            except sa.exc.DBAPIError as error:
                if error.connection_invalidated:
                    raise
                # A value that one signal cannot compute does not stop the others.
                text = redact(str(error.orig)).strip()
                _log.warning(f"The signal {signal.id} failed: {text}")
                found[signal.id] = Readiness(SignalStatus.FAILED, text)
    return found


def _write_signals(
    connection: sa.Connection, cluster: str, signals: Mapping[str, Readiness], options: HealthOptions
) -> None:
    """Write what each signal is and whether it was evaluated; only rows that differ."""
    columns = HEALTH_SIGNALS.c
    known = {
        row.signal_id: dict(row._mapping)
        for row in connection.execute(sa.select(HEALTH_SIGNALS).where(columns.cluster == cluster))
    }
    before = connection.scalar(
        sa.select(HEALTH_EVALUATIONS.c.evaluated_at).where(HEALTH_EVALUATIONS.c.cluster == cluster)
    )
    rows = []
    for position, (id_, ready) in enumerate(signals.items()):
        signal, old = all_signals()[id_], known.get(id_, {})
        row = {
            "cluster": cluster,
            "signal_id": id_,
            "group_id": group_of(signal),
            "position": position,
            "severity": signal.severity,
            "title": signal.title,
            "unit": signal.unit or None,
            "threshold": options.threshold(id_),
            "times_are": signal.times_are or None,
            "remedy": signal.remedy or None,
            "documentation": signal.url or None,
            "jobs": list(signal.jobs),
            "status": ready.status,
            "reason": ready.reason or None,
            "last_evaluated_at": _left_out_since(ready, old, before),
        }
        if row != old:
            rows.append(row)
    if removed := known.keys() - signals.keys():
        connection.execute(sa.delete(HEALTH_SIGNALS).where(columns.cluster == cluster, columns.signal_id.in_(removed)))
    if rows:
        new = insert(HEALTH_SIGNALS)
        changed = {c.name: new.excluded[c.name] for c in HEALTH_SIGNALS.c if not c.primary_key}
        connection.execute(new.on_conflict_do_update(index_elements=["cluster", "signal_id"], set_=changed), rows)


def _left_out_since(ready: Readiness, old: Mapping[str, object], before: datetime | None) -> object:
    """Return the last evaluation of a signal that this evaluation leaves out; None if it does not."""
    if ready.status is SignalStatus.EVALUATED:
        return None
    return before if old.get("status") == SignalStatus.EVALUATED else old.get("last_evaluated_at")


def _write_evaluation(
    connection: sa.Connection, cluster: str, options: HealthOptions, now: datetime, seconds: float
) -> None:
    row = {
        "cluster": cluster,
        "evaluated_at": now,
        "duration_ms": round(seconds * 1000),
        "settings_md5": options.md5,
        "price_per_hour": options.price_per_hour,
    }
    new = insert(HEALTH_EVALUATIONS).values(row)
    connection.execute(new.on_conflict_do_update(index_elements=["cluster"], set_=row))
