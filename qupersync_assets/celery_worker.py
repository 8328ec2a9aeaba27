"""The entry point of a Celery worker: `celery -A qupersync_assets.celery_worker worker`.

Needs the extra `celery`.
"""

from functools import cache
from typing import Any

import dagster as dg
from celery import Celery, Task
from dagster_celery.executor import CeleryExecutor
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_task

from qupersync_assets.core.log_format import configure_logs
from qupersync_assets.definitions import build_code_location
from qupersync_assets.defs.dagster_internals import unpack_step
from qupersync_assets.defs.executors import celery_config
from qupersync_assets.settings import Settings, SettingsError


class StepTask(Task):  # type: ignore[misc]  # Celery has no types
    """A step of a run; it is not started if the run has ended.

    A broker delivers a step again when its worker dies, even if the step was done and the run is over. The
    waiting steps of a killed run would hold the locks of jobs that the next run needs.
    """

    def __call__(self, execute_step_args_packed: Any, executable_dict: Any) -> Any:
        step = unpack_step(execute_step_args_packed)
        with dg.DagsterInstance.from_ref(step.instance_ref) as instance:
            run = instance.get_run_by_id(step.run_id)
        if run is None or run.is_finished:
            return []
        return self.run(execute_step_args_packed, executable_dict)


def build_app(settings: Settings) -> Celery:
    """Build the Celery application of the settings, with the one task that Dagster's runs send.

    Raises:
        SettingsError: the settings name another executor, whose runs send no tasks.
    """
    if settings.sync_executor != "celery":
        raise SettingsError([f"  SYNC_EXECUTOR={settings.sync_executor}: a Celery worker needs SYNC_EXECUTOR=celery."])
    config = celery_config(settings, lambda field: getattr(settings, field).get_secret_value())
    executor = CeleryExecutor.for_cli(**config)  # type: ignore[no-untyped-call]
    app = make_app(executor.app_args())  # type: ignore[no-untyped-call]
    create_task(app, base=StepTask, shared=False)  # type: ignore[no-untyped-call]
    return app


@cache
def _app() -> Celery:
    settings = Settings.load()
    configure_logs(settings.log_format)
    app = build_app(settings)
    build_code_location(settings).get_repository_def()  # the forked worker processes inherit it
    return app


def __getattr__(name: str) -> Celery:
    """Build `app` when Celery asks for it, not when this module is imported."""
    if name == "app":
        return _app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
