"""Decides which signals can be evaluated: those whose tables have fresh data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on

from qupersync_assets.health.options import HealthOptions
from qupersync_assets.health.signal import Signal
from qupersync_assets.postgres.sync_logs import IS_RUNNING, SYNC_LOGS
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.sync_jobs import all_specs


class SignalStatus(StrEnum):
    """What an evaluation did with a signal."""

    EVALUATED = "evaluated"
    STALE = "stale"  # a job that it reads failed, or was not synced lately
    NO_DATA = "no data"  # a job that it reads is off, or has no source in this cluster
    NOT_AVAILABLE = "not available"  # no sync job has the data
    OFF = "off"
    FAILED = "failed"


@dataclass(frozen=True)
class Readiness:
    """Whether a signal can be evaluated.

    Attributes:
        status: EVALUATED if it can.
        reason: why it cannot.
        may_resolve: whether its tables were read completely: else a finding that is missing may still exist.
    """

    status: SignalStatus
    reason: str = ""
    may_resolve: bool = True


_READY = Readiness(SignalStatus.EVALUATED)


def read_readiness(
    connection: sa.Connection, cluster: str, signals: Sequence[Signal], options: HealthOptions, now: datetime
) -> dict[str, Readiness]:
    """Return the readiness of each signal, by its id."""
    jobs = _jobs(connection, cluster, options, now)
    return {signal.id: _readiness(signal, jobs, options) for signal in signals}


def _readiness(signal: Signal, jobs: Mapping[str, Readiness], options: HealthOptions) -> Readiness:
    if signal.unavailable:
        return Readiness(SignalStatus.NOT_AVAILABLE, signal.unavailable)
    if options.is_off(signal.id):
        return Readiness(SignalStatus.OFF, "HEALTH_THRESHOLDS switches it off.")
    found = [jobs[job] for job in signal.jobs]
    for status in (SignalStatus.NO_DATA, SignalStatus.STALE):
        if reasons := [job.reason for job in found if job.status is status]:
            return Readiness(status, " ".join(reasons))
    return Readiness(SignalStatus.EVALUATED, may_resolve=all(job.may_resolve for job in found))


def _jobs(connection: sa.Connection, cluster: str, options: HealthOptions, now: datetime) -> dict[str, Readiness]:
    """Return the readiness of each job's table."""
    log = SYNC_LOGS.c
    ids = [spec.sync_job_id for spec in all_specs()]
    lately = (log.cluster == cluster) & (log.started_at >= now - max(map(options.fresh_for, ids)))
    ended = (
        sa.select(log.id, log.sync_job_id, log.status, log.error, log.started_at)
        .where(lately, ~IS_RUNNING, log.status != SyncStatus.SKIPPED)
        .ext(distinct_on(log.sync_job_id))
        .order_by(log.sync_job_id, log.id.desc())
    )
    last = {row.sync_job_id: row for row in connection.execute(ended)}
    running = set(connection.scalars(sa.select(log.sync_job_id).where(lately, IS_RUNNING)))
    fresh = {job: row for job, row in last.items() if row.started_at >= now - options.fresh_for(job)}
    return {job: _job(job, fresh.get(job), job in running, options) for job in ids}


def _job(job: str, last: Any, is_running: bool, options: HealthOptions) -> Readiness:
    if job not in options.jobs_on:
        return Readiness(SignalStatus.NO_DATA, f"{job} is off: add it to SYNC_JOBS.")
    if last is None:
        return Readiness(SignalStatus.STALE, f"{job} has not ended a sync within {options.fresh_for(job)}.")
    if last.status == SyncStatus.UNAVAILABLE:
        return Readiness(SignalStatus.NO_DATA, f"{job} has no source in this cluster: {last.error}")
    if last.status in (SyncStatus.SUCCESS, SyncStatus.PARTIAL):
        is_complete = last.status == SyncStatus.SUCCESS and not is_running
        return _READY if is_complete else Readiness(SignalStatus.EVALUATED, may_resolve=False)
    return Readiness(SignalStatus.STALE, f"The last sync of {job} was {last.status}: {last.error}")
