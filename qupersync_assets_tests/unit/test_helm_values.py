"""deploy/helm/values.yaml and deploy/kubernetes/networkpolicy.yaml: fields of Kubernetes, settings and versions."""

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
from qupersync_assets.settings.ui import UiSettings

FILE = Path(__file__).parents[2] / "deploy" / "helm" / "values.yaml"
DOCKERFILE = (FILE.parents[1] / "Dockerfile").read_text("utf-8")
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
    assert runs["podSpecConfig"]["securityContext"] == CODE["podSecurityContext"], "runs do not inherit it"
    pod, container, job = (runs[f"{part}Config"] for part in ("podSpec", "container", "jobSpec"))
    UserDefinedDagsterK8sConfig(pod_spec_config=pod, container_config=container, job_spec_config=job)


def test_settings_exist_and_secrets_are_references() -> None:
    given = {variable["name"] for variable in CODE["env"]}
    assert given <= variables().keys()
    assert not any(is_secret(variables()[name]) for name in given)
    required = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}
    assert required <= given
    assert CODE["envSecrets"] and not re.search(r"(?i)password:", FILE.read_text("utf-8"))


def test_versions_equal_those_of_this_release() -> None:
    changelog = (FILE.parents[2] / "CHANGELOG.md").read_text("utf-8")
    release = re.findall(r"^## .*?(\d+\.\d+\.\d+)", changelog, re.MULTILINE)[0]
    assert {pod["image"]["tag"] for pod in PODS} == {release}
    assert re.findall(r"--version (\S+)", FILE.read_text("utf-8")) == [version("dagster")]


def test_storage_and_retention_equal_those_of_dagster_yaml() -> None:
    own: dict[str, Any] = yaml.safe_load((FILE.parents[2] / "dagster.yaml").read_text("utf-8"))
    scheme = VALUES["postgresql"]["postgresqlScheme"]
    assert own["storage"]["custom"]["config"] == {"postgres_url": f"{scheme}://"}
    assert VALUES["telemetry"] == own["telemetry"] and VALUES["additionalInstanceConfig"]["nux"] == own["nux"]
    for kind in ("schedule", "sensor"):
        days = VALUES["retention"][kind]["purgeAfterDays"]
        assert {**own["retention"][kind]["purge_after_days"], "started": -1} == days


def test_the_webservers_have_a_read_only_twin_and_probes_by_an_allowed_name() -> None:
    webserver = VALUES["dagsterWebserver"]
    assert webserver["enableReadOnly"] is True
    given = {variable["name"]: variable["value"] for variable in webserver["env"]}
    hosts = UiSettings(**{name.lower(): value for name, value in given.items()}).allowed_hosts()
    (header,) = webserver["readinessProbe"]["httpGet"]["httpHeaders"]
    assert header["name"] == "Host" and {header["value"], "dagster.example.com"} <= {*hosts}
    script = (FILE.parents[1] / "dagster").read_text("utf-8")
    assert (
        "-m qupersync_assets.serve.webserver" in script and "ln --symbolic dagster bin/dagster-webserver" in DOCKERFILE
    )


def test_only_dagster_reaches_the_code_server_and_only_the_proxy_the_ui() -> None:
    path = FILE.parents[1] / "kubernetes" / "networkpolicy.yaml"
    policies = {policy["metadata"]["name"]: policy for policy in yaml.safe_load_all(path.read_text("utf-8")) if policy}
    for policy in policies.values():
        assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
        k8s_snake_case_dict(k8s.V1NetworkPolicySpec, policy["spec"])
        assert policy["spec"]["policyTypes"] == ["Ingress"]
    (code,) = policies["qupersync-code-server"]["spec"]["ingress"]
    assert [port["port"] for port in code["ports"]] == [CODE["port"]]
    (peer,) = code["from"]
    (components,) = peer["podSelector"]["matchExpressions"]
    assert set(components["values"]) == {"dagster-webserver", "dagster-webserver-read-only", "dagster-daemon"}
    (ui,) = policies["qupersync-webserver"]["spec"]["ingress"]
    assert [port["port"] for port in ui["ports"]] == [VALUES["dagsterWebserver"]["service"]["port"]]
    assert len(ui["from"]) == 1
    assert all("ingress" not in policies[f"qupersync-{name}"]["spec"] for name in ("daemon", "runs"))
