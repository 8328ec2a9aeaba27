"""Where the steps of a run are executed: in its process, in forked processes, on Celery workers, in pods."""

import json
from collections.abc import Callable
from typing import Any

import dagster as dg

from qupersync_assets.defs.step_timeout import with_step_timeout
from qupersync_assets.settings import Settings, SettingsError


def fixed(executor: dg.ExecutorDefinition, config: dict[str, Any]) -> dg.ExecutorDefinition:
    """Return the executor with a configuration that a launch can neither replace nor extend."""
    return executor.configured(lambda _: config, config_schema={})


IN_PROCESS = fixed(dg.in_process_executor, {})


def build_executor(settings: Settings) -> dg.ExecutorDefinition:
    """Build the executor that SYNC_EXECUTOR names, for all jobs.

    Raises:
        SettingsError: Kubernetes does not know a key of KUBERNETES_STEP_CONFIG.
    """
    if settings.sync_executor == "celery":
        from dagster_celery import celery_executor

        # References to variables, because Dagster stores and shows its configuration.
        return fixed(celery_executor, celery_config(settings, lambda field: {"env": field.upper()}))
    if settings.sync_executor == "k8s":
        return _k8s_executor(settings)
    if settings.sync_executor == "in_process":
        return IN_PROCESS
    # A fork of a process that has imported everything starts in a fraction of the time of a new process. A run that
    # was forked itself is such a process; another one starts one.
    forked = {"forkserver": {"preload_modules": ["qupersync_assets.forkserver_preload"]}}
    executor = with_step_timeout(dg.multiprocess_executor, settings.sync_step_timeout)
    return fixed(executor, {"max_concurrent": settings.sync_max_concurrent, "start_method": forked})


def run_tags(settings: Settings) -> dict[str, str]:
    """Return the tags of all runs: the time after which Dagster's run monitoring ends them.

    With Celery it is at least the time in which a worker may die with a step and another worker do it: a run
    waits for the answers of its steps even if the broker has lost them.
    """
    celery = 2 * settings.celery_step_timeout if settings.sync_executor == "celery" else 0
    return {"dagster/max_runtime": str(max(settings.sync_max_runtime, celery))}


def celery_config(settings: Settings, url: Callable[[str], Any]) -> dict[str, Any]:
    """Return the configuration of Celery, which has to be the same for runs and workers.

    `url` returns the secret URL of a field of the settings, in the form that the caller needs.
    https://docs.celeryq.dev/en/stable/userguide/configuration.html
    """
    broker = settings.celery_broker_url
    redis = broker is not None and broker.get_secret_value().startswith("redis")
    field = "celery_backend_url" if settings.celery_backend_url else "celery_broker_url" if redis else None
    # Redis cannot distinguish a dead worker from a slow one: it delivers the step again after this time.
    transport = {"visibility_timeout": settings.celery_step_timeout + 5} if redis else {}
    return {
        "broker": url("celery_broker_url"),
        "backend": url(field) if field else "rpc://",
        "config_source": {
            # Steps are acknowledged on completion, so that another worker gets the step of a dead one.
            "task_acks_late": True,
            "task_reject_on_worker_lost": True,
            "worker_prefetch_multiplier": 1,
            # No step has two workers: a worker that is slow or has lost the broker ends the step before.
            "task_time_limit": settings.celery_step_timeout,
            "worker_cancel_long_running_tasks_on_connection_loss": True,
            "broker_transport_options": transport,
            "broker_connection_retry_on_startup": True,
            "worker_concurrency": settings.sync_max_concurrent,
        },
    }


def _k8s_executor(settings: Settings) -> dg.ExecutorDefinition:
    """Build the executor of one pod per step.

    Image, secrets, service account and namespace are those of the run's own pod.
    """
    from dagster_k8s import k8s_job_executor
    from dagster_k8s.job import UserDefinedDagsterK8sConfig

    pods = json.loads(settings.kubernetes_step_config or "{}")
    # https://kubernetes.io/docs/concepts/workloads/controllers/job/#job-termination-and-cleanup
    pods.setdefault("job_spec_config", {}).setdefault("active_deadline_seconds", settings.sync_step_timeout)
    executor = fixed(k8s_job_executor, {"max_concurrent": settings.sync_max_concurrent, "step_k8s_config": pods})
    faults = [error.message for error in executor.apply_config_mapping({"config": {}}).errors or []]
    if not faults:
        try:
            UserDefinedDagsterK8sConfig.from_dict(pods)  # type: ignore[no-untyped-call]
        except Exception as error:  # it raises no exception class of its own
            faults = [str(error)]
    if faults:
        raise SettingsError([f"  KUBERNETES_STEP_CONFIG: {fault}" for fault in faults])
    return executor
