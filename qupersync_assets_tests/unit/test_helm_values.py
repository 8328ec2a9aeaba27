"""deploy/helm/values.yaml: fields of Kubernetes, settings and versions."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes.client as k8s
import yaml
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from dagster_k8s.models import k8s_snake_case_dict

from qupersync_assets.settings import Settings, variables
from qupersync_assets.settings.errors import is_secret

FILE = Path(__file__).parents[2] / "deploy" / "helm" / "values.yaml"
VALUES = yaml.safe_load(FILE.read_text("utf-8"))
(CODE,) = VALUES["dagster-user-deployments"]["deployments"]
PODS = [CODE, VALUES["dagsterWebserver"], VALUES["dagsterDaemon"]]


def test_fields_of_pods_are_valid_in_kubernetes() -> None:
    for pod in PODS:
        k8s_snake_case_dict(k8s.V1PodSecurityContext, pod["podSecurityContext"])
        k8s_snake_case_dict(k8s.V1PodSpec, {"containers": [], "volumes": pod["volumes"]})
        container = {name: pod[name] for name in ("securityContext", "resources", "volumeMounts")}
        probes = {n: pod[n] for n in ("livenessProbe", "readinessProbe") if n in pod}
        k8s_snake_case_dict(k8s.V1Container, {"name": "container", **container, **probes})
    runs = VALUES["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    UserDefinedDagsterK8sConfig(container_config=runs["containerConfig"], job_spec_config=runs["jobSpecConfig"])


def test_settings_exist_and_secrets_are_references() -> None:
    given = {variable["name"] for variable in CODE["env"]}
    assert given <= variables().keys()
    assert not any(is_secret(variables()[name]) for name in given)
    required = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}
    assert required <= given
    assert CODE["envSecrets"] and not re.search(r"(?i)password:", FILE.read_text("utf-8"))


def test_versions_equal_those_of_this_release() -> None:
    assert {pod["image"]["tag"] for pod in PODS} == {version("qupersync")}
    assert re.findall(r"--version (\S+)", FILE.read_text("utf-8")) == [version("dagster")]


def test_storage_and_retention_equal_those_of_dagster_yaml() -> None:
    own: dict[str, Any] = yaml.safe_load((FILE.parents[2] / "dagster.yaml").read_text("utf-8"))
    scheme = VALUES["postgresql"]["postgresqlScheme"]
    assert own["storage"]["postgres"] == {"postgres_url": f"{scheme}://"}
    assert VALUES["telemetry"] == own["telemetry"] and VALUES["additionalInstanceConfig"]["nux"] == own["nux"]
    for kind in ("schedule", "sensor"):
        days = VALUES["retention"][kind]["purgeAfterDays"]
        assert {**own["retention"][kind]["purge_after_days"], "started": -1} == days
