"""Changes of a Dagster instance that otherwise its UI and its daemon make."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.types import DaemonHeartbeat

from qupersync_assets.defs.names import JOB_NAME

_REPOSITORY = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("qupersync"), "repository")


def beat(instance: dg.DagsterInstance, age: float = 5) -> None:
    """Write a heartbeat of each thread of the daemon, some seconds ago."""
    for kind in instance.get_required_daemon_types():
        instance.add_daemon_heartbeat(DaemonHeartbeat(datetime.now(UTC).timestamp() - age, kind, "id", []))


def switch_off(instance: dg.DagsterInstance, schedule: str) -> None:
    """Switch a schedule off."""
    origin, data = RemoteInstigatorOrigin(_REPOSITORY, schedule), ScheduleInstigatorData("*/5 * * * *", None)
    instance.add_instigator_state(InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.STOPPED, data))


def queue_run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """Queue a run of all sync jobs; nothing starts it."""
    origin = RemoteJobOrigin(_REPOSITORY, JOB_NAME)
    return create_run_for_test(instance, JOB_NAME, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin)
