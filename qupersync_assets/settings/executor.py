"""The settings of where sync jobs run: SYNC_EXECUTOR, and what the executors need."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, SecretStr

# What an executor needs besides Dagster: the module of the extra that has its name.
_MODULES = {"celery": "dagster_celery", "k8s": "dagster_k8s"}


def _installed(executor: str) -> str:
    module = _MODULES.get(executor)
    if module and importlib.util.find_spec(module) is None:
        raise ValueError(f"it needs the extra of that name: pip install 'qupersync[{executor}]'")
    return executor


def _url(*schemes: str) -> AfterValidator:
    def check(url: SecretStr) -> SecretStr:
        if not re.match(rf"({'|'.join(schemes)})://", url.get_secret_value()):
            raise ValueError(f"allowed is a URL that begins with one of {', '.join(schemes)} and ://")
        return url

    return AfterValidator(check)


def _json_object(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"allowed is JSON, which this is not: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("allowed is a JSON object")
    return text


class ExecutorSettings(BaseModel):
    """What `executors.py` and the Celery workers are configured with."""

    sync_executor: Annotated[
        Literal["in_process", "multiprocess", "celery", "k8s"], AfterValidator(_installed)
    ] = Field("multiprocess", description="Where sync jobs run: in_process, multiprocess, celery or k8s.")
    sync_max_concurrent: Annotated[int, Field(ge=1, le=100)] = Field(
        4, description="How many sync jobs of a run go at once; with celery, on each worker."
    )
    celery_broker_url: Annotated[SecretStr, _url("redis", "rediss", "amqp", "amqps")] | None = Field(
        None,
        description="Broker of Celery: redis://:PASSWORD@HOST:6379/0, amqp://USER:PASSWORD@HOST//. A secret.",
    )
    celery_backend_url: Annotated[SecretStr, _url("redis", "rediss", "rpc")] | None = Field(
        None, description="Where Celery answers, if not by the broker; redis or rpc. A secret."
    )
    celery_step_timeout: Annotated[int, Field(ge=10, le=86400)] = Field(
        1800,
        description="Seconds that a sync job may take on a Celery worker; with Redis, one that died is "
        "noticed after as many.",
    )
    kubernetes_step_config: Annotated[str, AfterValidator(_json_object)] | None = Field(
        None, description="JSON for the pods of k8s, as step_k8s_config of Dagster's k8s_job_executor."
    )


def executor_faults(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a combination of settings: the field and a sentence, or "" where it is missing.

    Args:
        values: by field, as they stand in the environment. Faults of single values are not looked for.
    """
    if values.get("sync_executor") == "celery" and not values.get("celery_broker_url"):
        yield "celery_broker_url", ""
