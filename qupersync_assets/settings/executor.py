"""The settings of the executors: SYNC_EXECUTOR, and what each executor needs."""

import importlib.util
import json
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationInfo
from pydantic_core import PydanticKnownError

# The module that the extra with the executor's name installs.
_MODULES = {"celery": "dagster_celery", "k8s": "dagster_k8s"}


def _installed(executor: str) -> str:
    if (module := _MODULES.get(executor)) and importlib.util.find_spec(module) is None:
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
        raise ValueError(f"allowed is JSON; this is not: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("allowed is a JSON object")
    return text


def _needed_by_celery(url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    if url is None and info.data.get("sync_executor") == "celery":
        raise PydanticKnownError("missing")
    return url


class ExecutorSettings(BaseModel, use_attribute_docstrings=True):
    """The configuration of the executors and of the Celery workers."""

    sync_executor: Annotated[Literal["in_process", "multiprocess", "celery", "k8s"], AfterValidator(_installed)] = (
        Field("multiprocess")
    )
    """Where sync jobs run: in the process of the run, in processes, on Celery workers or in pods."""
    sync_max_concurrent: int = Field(4, ge=1, le=100)
    """Maximum number of sync jobs of a run that run at the same time; with celery, on each worker."""
    sync_step_timeout: int = Field(1800, ge=10, le=86400)
    """Seconds after which a sync job that hangs is killed, with multiprocess and k8s; the other jobs continue."""
    celery_broker_url: Annotated[
        Annotated[SecretStr, _url("redis", "rediss", "amqp", "amqps")] | None, AfterValidator(_needed_by_celery)
    ] = Field(None, validate_default=True)
    """Broker of Celery: redis://:PASSWORD@HOST:6379/0 or amqp://USER:PASSWORD@HOST//. A secret."""
    celery_backend_url: Annotated[SecretStr, _url("redis", "rediss", "rpc")] | None = None
    """Result backend of Celery, redis:// or rpc://, if it is not the broker. A secret."""
    celery_step_timeout: int = Field(1800, ge=10, le=86400)
    """Time limit of a sync job on a Celery worker, in seconds. With Redis, a dead worker is noticed after it."""
    kubernetes_step_config: Annotated[str, AfterValidator(_json_object)] | None = None
    """JSON object for the pods of k8s: the option step_k8s_config of Dagster's k8s_job_executor."""
