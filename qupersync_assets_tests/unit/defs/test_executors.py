"""Executors by configuration: what Dagster gets, which values are refused, and steps of finished runs."""

from __future__ import annotations

import sys
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import reconstructable
from dagster._core.execution.retries import RetryMode
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.test_utils import create_run_for_test
from dagster._grpc.types import ExecuteStepArgs
from dagster_shared.serdes import pack_value, serialize_value

from qupersync_assets.celery_worker import build_app
from qupersync_assets.core.redaction import redact
from qupersync_assets.defs.names import ASSET_JOB
from qupersync_assets.settings import SettingsError
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.unit.conftest import Build, Load

PASSWORD = "hunter2/of the:broker"
BROKER = "redis://:hunter2%2Fof%20the%3Abroker@redis.example:6379/0"
RABBITMQ = "amqps://qupersync:hunter2@rabbitmq.example//"
CELERY = {"SYNC_EXECUTOR": "celery", "CELERY_BROKER_URL": BROKER, "CELERY_STEP_TIMEOUT": "600"}
PODS = '{"container_config": {"resources": {"limits": {"cpu": "1"}}}}'


def configuration(definitions: dg.Definitions) -> tuple[str, dict[str, Any]]:
    """The executor of the sync job, and the configuration that it gets at the start of a run."""
    executor = definitions.resolve_job_def("qupersync_main").executor_def
    value: Any = executor.apply_config_mapping({"config": {}}).value
    return executor.name, value["config"]


@pytest.mark.parametrize(
    ("variables", "name", "expected"),
    [
        ({"SYNC_EXECUTOR": "in_process"}, "in_process", {}),
        ({}, "multiprocess", {"max_concurrent": 4}),
        ({"SYNC_MAX_CONCURRENT": "2"}, "multiprocess", {"max_concurrent": 2}),
        (CELERY, "celery", {"broker": BROKER, "backend": BROKER}),
        (CELERY | {"CELERY_BROKER_URL": RABBITMQ}, "celery", {"broker": RABBITMQ, "backend": "rpc://"}),
        (CELERY | {"CELERY_BACKEND_URL": "rediss://other"}, "celery", {"broker": BROKER, "backend": "rediss://other"}),
        ({"SYNC_EXECUTOR": "k8s"}, "k8s", {"max_concurrent": 4}),
    ],
)
def test_the_executor_is_that_of_the_settings(
    build: Build, variables: dict[str, str], name: str, expected: dict[str, Any]
) -> None:
    definitions = build(**variables)
    dg.Definitions.validate_loadable(definitions)
    executor, config = configuration(definitions)
    assert executor == name
    assert {key: config[key] for key in expected} == expected


def test_pods_have_the_configuration_of_the_settings(build: Build) -> None:
    _, config = configuration(build(SYNC_EXECUTOR="k8s", KUBERNETES_STEP_CONFIG=PODS))
    assert config["step_k8s_config"]["container_config"] == {"resources": {"limits": {"cpu": "1"}}}


def test_celery_delivers_a_step_again_only_after_its_time_limit(build: Build) -> None:
    _, config = configuration(build(**CELERY))
    celery = config["config_source"]
    assert celery["task_time_limit"] == 600 < celery["broker_transport_options"]["visibility_timeout"]


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, "3600"),
        ({"SYNC_MAX_RUNTIME": "900"}, "900"),
        # A run waits for the answer of a step that the broker has lost.
        (CELERY | {"SYNC_MAX_RUNTIME": "900"}, "1200"),
        (CELERY, "3600"),
    ],
)
def test_all_runs_have_a_maximum_runtime(build: Build, variables: dict[str, str], seconds: str) -> None:
    jobs = build(**variables).get_repository_def().get_all_jobs()
    jobs = [job for job in jobs if job.name != ASSET_JOB]  # its runs have no tags of their own
    assert len(jobs) > len(default_specs()) and {job.tags["dagster/max_runtime"] for job in jobs} == {seconds}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SYNC_EXECUTOR": "dask"}, ["SYNC_EXECUTOR", "dask", "'multiprocess'"]),
        ({"SYNC_MAX_CONCURRENT": "0"}, ["SYNC_MAX_CONCURRENT", "or equal to 1"]),
        (CELERY | {"CELERY_BROKER_URL": None}, ["CELERY_BROKER_URL is not set"]),
        (CELERY | {"CELERY_BROKER_URL": "redis.example"}, ["CELERY_BROKER_URL", "redis, rediss, amqp, amqps"]),
        (CELERY | {"CELERY_BACKEND_URL": RABBITMQ}, ["CELERY_BACKEND_URL", "redis, rediss, rpc"]),
        (CELERY | {"CELERY_STEP_TIMEOUT": "1"}, ["CELERY_STEP_TIMEOUT", "or equal to 10"]),
        ({"SYNC_EXECUTOR": "k8s", "KUBERNETES_STEP_CONFIG": "cpu: 1"}, ["KUBERNETES_STEP_CONFIG", "allowed is JSON"]),
        (
            {"SYNC_EXECUTOR": "k8s", "KUBERNETES_STEP_CONFIG": '{"pods": {}}'},
            ["KUBERNETES_STEP_CONFIG", "container_config"],
        ),
        (
            {"SYNC_EXECUTOR": "k8s", "KUBERNETES_STEP_CONFIG": PODS.replace("limits", "limit")},
            ["KUBERNETES_STEP_CONFIG", "V1ResourceRequirements", "limit"],
        ),
    ],
)
def test_a_wrong_value_is_reported(build: Build, variables: dict[str, str | None], words: list[str]) -> None:
    with pytest.raises(SettingsError) as refusal:
        build(**variables)
    assert all(word in str(refusal.value) for word in words), str(refusal.value)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("executor", ["celery", "k8s"])
def test_a_missing_extra_is_reported(load: Load, monkeypatch: pytest.MonkeyPatch, executor: str) -> None:
    monkeypatch.setitem(sys.modules, f"dagster_{executor}", None)
    with pytest.raises(SettingsError, match=rf"SYNC_EXECUTOR.*pip install 'qupersync\[{executor}\]'"):
        load(**CELERY | {"SYNC_EXECUTOR": executor})


def test_the_password_of_the_broker_is_not_shown(build: Build) -> None:
    definitions = build(**CELERY)
    shown = serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))
    assert "hunter2" not in shown
    error = f"Cannot connect to {BROKER} with {PASSWORD}"
    assert redact(error) == "Cannot connect to redis://:***@redis.example:6379/0 with ***"


@dg.op
def loads() -> None:
    """Stands for a step, and says so in the run's log."""


@dg.job
def loading() -> None:
    loads()


@pytest.mark.parametrize(
    ("status", "starts"), [(dg.DagsterRunStatus.STARTED, True), (dg.DagsterRunStatus.CANCELED, False)]
)
def test_a_step_of_a_finished_run_is_not_started(
    load: Load, instance: dg.DagsterInstance, status: dg.DagsterRunStatus, starts: bool
) -> None:
    settings = load(**CELERY)
    task = build_app(settings).tasks["execute_plan"]
    job = reconstructable(loading)
    run = create_run_for_test(instance, job_name="loading", status=status)
    step = ExecuteStepArgs(
        job_origin=job.get_python_origin(),
        run_id=run.run_id,
        step_keys_to_execute=["loads"],
        instance_ref=instance.get_ref(),
        retry_mode=RetryMode.DISABLED,
    )
    events = task.apply([pack_value(step), job.to_dict()]).get()
    assert any("STEP_SUCCESS" in event for event in events) == starts
    assert bool(events) == starts
