"""What a Celery worker loads: `celery -A qupersync_assets.celery_worker worker`. Needs the extra `celery`."""

from __future__ import annotations

from typing import Any

import dagster as dg
from celery import Celery, Task
from dagster._grpc.types import ExecuteStepArgs
from dagster_celery.executor import CeleryExecutor
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_task
from dagster_shared.serdes import unpack_value
from pydantic import SecretStr

# Before its processes are forked, so that all have the code and a step begins at once.
import qupersync_assets.definitions  # noqa: F401
from qupersync_assets.defs.executors import celery_config
from qupersync_assets.settings import Settings, SettingsError


def _plain_url(settings: Settings, field: str) -> str:
    url: SecretStr = getattr(settings, field)
    return url.get_secret_value()


class StepTask(Task):  # type: ignore[misc]  # Celery has no types
    """A step of a run, which is not begun if the run has ended meanwhile.

    Brokers hand a step out again when its worker has died, even if that one had done it and the run is over;
    and what a killed run has left waiting would hold the locks of jobs that the next run wants.
    """

    def __call__(self, execute_step_args_packed: Any, executable_dict: Any) -> Any:
        step = unpack_value(execute_step_args_packed, as_type=ExecuteStepArgs)
        assert step.instance_ref is not None, "dagster-celery passes it on"  # noqa: S101
        with dg.DagsterInstance.from_ref(step.instance_ref) as instance:
            run = instance.get_run_by_id(step.run_id)
        if run is None or run.is_finished:
            return []
        return self.run(execute_step_args_packed, executable_dict)


def build_app(settings: Settings) -> Celery:
    """The Celery application of the settings, with the one task that runs of Dagster ask for.

    Raises:
        SettingsError: they name another executor, whose runs ask nothing of workers.
    """
    if settings.sync_executor != "celery":
        raise SettingsError(
            [f"  SYNC_EXECUTOR={settings.sync_executor}: Celery workers have work with celery alone."]
        )
    executor = CeleryExecutor.for_cli(**celery_config(settings, _plain_url))  # type: ignore[no-untyped-call]
    app = make_app(executor.app_args())  # type: ignore[no-untyped-call]
    create_task(app, base=StepTask, shared=False)  # type: ignore[no-untyped-call]
    return app


app = build_app(Settings.load())
