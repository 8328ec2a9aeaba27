"""Where the steps of a run work: in its process, in processes of their own, on Celery workers, in pods."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import dagster as dg

from qupersync_assets.settings import Settings, SettingsError


def build_executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor that SYNC_EXECUTOR names, for all jobs.

    Raises:
        SettingsError: KUBERNETES_STEP_CONFIG has what Kubernetes does not know.
    """
    if settings.sync_executor == "celery":
        from dagster_celery import celery_executor

        return celery_executor.configured(celery_config(settings, _as_env_var))
    if settings.sync_executor == "k8s":
        return _k8s_executor(settings)
    if settings.sync_executor == "in_process":
        return dg.in_process_executor
    # A forked server that has imported everything starts a step in a fraction of a fresh process's time.
    forked = {"forkserver": {"preload_modules": ["qupersync_assets.forkserver_preload"]}}
    return dg.multiprocess_executor.configured(
        {"max_concurrent": settings.sync_max_concurrent, "start_method": forked}
    )


def run_tags(settings: Settings) -> dict[str, str]:
    """The tags of a job's runs that the executor needs.

    A run on Celery waits for the answers of its steps even where the broker has lost them. Dagster's run
    monitoring ends it after the time in which a worker may die with a step and another one do it.
    """
    if settings.sync_executor != "celery":
        return {}
    return {"dagster/max_runtime": str(2 * settings.celery_step_timeout)}


def celery_config(settings: Settings, url: Callable[[Settings, str], Any]) -> dict[str, Any]:
    """The configuration of Celery, which has to be the same for runs and workers.

    https://docs.celeryq.dev/en/stable/userguide/configuration.html

    Args:
        url: gives the URL of a field of the settings, a secret, in the form that is wanted.
    """
    broker = settings.celery_broker_url
    redis = broker is not None and broker.get_secret_value().startswith("redis")
    field = "celery_backend_url" if settings.celery_backend_url else "celery_broker_url" if redis else None
    # Redis cannot tell a dead worker from a slow one: what nobody has done by then it gives to another one.
    patience = {"visibility_timeout": settings.celery_step_timeout + 5} if redis else {}
    return {
        "broker": url(settings, "celery_broker_url"),
        "backend": url(settings, field) if field else "rpc://",
        "config_source": {
            # A step is taken off the broker when it is done, so that another worker has that of a dead one.
            "task_acks_late": True,
            "task_reject_on_worker_lost": True,
            "worker_prefetch_multiplier": 1,
            # No step has two workers: one that is slow, or cut off from the broker, ends it before.
            "task_time_limit": settings.celery_step_timeout,
            "worker_cancel_long_running_tasks_on_connection_loss": True,
            "broker_transport_options": patience,
            "broker_connection_retry_on_startup": True,
            "worker_concurrency": settings.sync_max_concurrent,
        },
    }


def _as_env_var(_settings: Settings, field: str) -> dict[str, str]:
    """For Dagster, which stores and shows what it is told."""
    return {"env": field.upper()}


def _k8s_executor(settings: Settings) -> dg.ExecutorDefinition:
    """A pod a step; image, secrets, service account and namespace are those of the run's own pod."""
    from dagster._config import validate_config
    from dagster_k8s import k8s_job_executor
    from dagster_k8s.job import USER_DEFINED_K8S_JOB_CONFIG_SCHEMA, UserDefinedDagsterK8sConfig

    pods = json.loads(settings.kubernetes_step_config or "{}")
    faults = [
        error.message for error in validate_config(USER_DEFINED_K8S_JOB_CONFIG_SCHEMA, pods).errors or []
    ]
    if not faults:
        try:
            UserDefinedDagsterK8sConfig.from_dict(pods)  # type: ignore[no-untyped-call]
        except Exception as error:  # it raises no kind of its own
            faults = [str(error)]
    if faults:
        raise SettingsError([f"  KUBERNETES_STEP_CONFIG: {fault}" for fault in faults])
    return k8s_job_executor.configured(
        {"max_concurrent": settings.sync_max_concurrent, "step_k8s_config": pods}
    )
