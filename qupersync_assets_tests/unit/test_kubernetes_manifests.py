"""deploy/kubernetes: fields of Kubernetes, and the image, settings and labels of the release."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes.client as k8s
import pytest
import yaml
from dagster_k8s.models import k8s_snake_case_dict

from qupersync_assets.settings import variables
from qupersync_assets_tests.unit.test_helm_values import CODE, VALUES

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
MANIFESTS = [
    pytest.param(document, id=f"{path.name} {document['kind']}")
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text("utf-8"))
]
MODELS = {
    "Deployment": k8s.V1Deployment,
    "Job": k8s.V1Job,
    "NetworkPolicy": k8s.V1NetworkPolicy,
    "PodDisruptionBudget": k8s.V1PodDisruptionBudget,
    "Service": k8s.V1Service,
}
LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
# https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.ServiceMonitor: what is used of it.
SERVICE_MONITOR = {
    "type": "object",
    "required": ["selector", "endpoints"],
    "additionalProperties": False,
    "properties": {
        "selector": {"type": "object", "additionalProperties": False, "properties": {"matchLabels": LABELS}},
        "endpoints": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "port": {"type": "string"},
                    "path": {"type": "string", "pattern": "^/"},
                    "interval": {"type": "string", "pattern": r"^\d+s$"},
                    "scrapeTimeout": {"type": "string", "pattern": r"^\d+s$"},
                },
            },
        },
    },
}


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [parameter.values[0] for parameter in MANIFESTS if parameter.values[0]["kind"] in kinds]  # type: ignore[index, misc]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_manifest_is_valid_in_kubernetes(manifest: dict[str, Any]) -> None:
    if manifest["kind"] == "ServiceMonitor":
        assert manifest["apiVersion"] == "monitoring.coreos.com/v1"
        jsonschema.validate(manifest["spec"], SERVICE_MONITOR)
        return
    k8s_snake_case_dict(MODELS[manifest["kind"]], manifest)
    groups = {"Deployment": "apps/v1", "Job": "batch/v1", "Service": "v1", "PodDisruptionBudget": "policy/v1"}
    assert manifest["apiVersion"] == groups.get(manifest["kind"], "networking.k8s.io/v1")


def test_unknown_field_is_refused() -> None:
    (job,) = of_kind("Job")
    with pytest.raises(Exception, match="backoffLimits"):
        k8s_snake_case_dict(k8s.V1Job, {**job, "spec": {**job["spec"], "backoffLimits": 1}})


def test_containers_have_the_image_and_the_settings_of_the_release() -> None:
    image = CODE["image"]
    shared = {variable["name"]: variable["value"] for variable in CODE["env"]}
    for manifest in of_kind("Deployment", "Job"):
        pod = manifest["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == f"{image['repository']}:{image['tag']}"
        own = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert own.keys() <= variables().keys()
        changed = {name for name, value in shared.items() if own.get(name) != value}
        assert changed <= ({"POSTGRES_USER"} if manifest["kind"] == "Job" else set())
        assert [source["secretRef"] for source in container["envFrom"]] == CODE["envSecrets"]
        assert pod["securityContext"] == CODE["podSecurityContext"]
        assert container["securityContext"] == CODE["securityContext"]


def test_selectors_select_the_pods_of_the_metrics() -> None:
    (deployment,) = of_kind("Deployment")
    (service,) = of_kind("Service")
    (monitor,) = of_kind("ServiceMonitor")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ports = {port["name"] for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports
    assert any(policy["spec"]["podSelector"].get("matchLabels") == labels for policy in of_kind("NetworkPolicy"))


def test_probes_do_not_contact_a_database() -> None:
    (deployment,) = of_kind("Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    paths = [container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")]
    assert paths == ["/", "/"]
    assert VALUES["dagsterWebserver"]["readinessProbe"] and VALUES["dagsterDaemon"]["livenessProbe"]


def test_no_manifest_contains_a_secret() -> None:
    containers = chain.from_iterable(m["spec"]["template"]["spec"]["containers"] for m in of_kind("Deployment", "Job"))
    for container in containers:
        assert not [v["name"] for v in container["env"] if "PASSWORD" in v["name"] and "value" in v]
