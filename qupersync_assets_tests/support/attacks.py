"""What a web page, or a user of the UI, can send to the webserver to get at secrets; and a server that receives them."""

from __future__ import annotations

import http.client
import json
import socketserver
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from qupersync_assets.defs.names import ASSET_JOB
from qupersync_assets_tests.support.background_server import InBackground

JSON = {"Content-Type": "application/json"}
# Jobs as Dagster's launchpad, its page of assets, and its page of a failed run launch them.
JOB = '{repositoryLocationName: "qupersync", repositoryName: "__repository__", jobName: "%s"}'
LAUNCH = """mutation Launch($job: String!, $config: RunConfigData!, $tags: [ExecutionTag!]) {
  launchRun(executionParams: {runConfigData: $config, executionMetadata: {tags: $tags},
    selector: {repositoryLocationName: "qupersync", repositoryName: "__repository__", jobName: $job}})
  { __typename ... on LaunchRunSuccess { run { runId } } ... on RunConfigValidationInvalid { errors { message } } } }"""


class Receiver(InBackground, socketserver.ThreadingTCPServer):
    """Plays a foreign server, on `port`; keeps the first bytes of each connection in `received`."""

    daemon_threads = True

    def __init__(self) -> None:
        self.received: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Reception)

    @property
    def port(self) -> int:
        port: int = self.server_address[1]
        return port


class _Reception(socketserver.BaseRequestHandler):
    server: Receiver

    def handle(self) -> None:
        self.server.received.append(b"")  # a connection is one too many
        self.request.settimeout(5)
        self.server.received.append(self.request.recv(4096))


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(port: int, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> Answer:
    """Send a request to the webserver and return its response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read().decode("utf-8", "replace"))
    finally:
        connection.close()


def launch_body(job: str, config: dict[str, Any], tags: dict[str, str] | None = None) -> str:
    """Return the JSON that launches a job."""
    pairs = [{"key": key, "value": value} for key, value in (tags or {}).items()]
    return json.dumps({"query": LAUNCH, "variables": {"job": job, "config": config, "tags": pairs}})


def launches_of_all(jobs: list[str], run_id: str) -> str:
    """Return a GraphQL mutation that launches each job with the configuration $config, in each way there is."""
    invalid = "{ __typename ... on LaunchRunSuccess { run { runId } } }"
    several = "{ ... on LaunchMultipleRunsResult { launchMultipleRunsResult { __typename } } }"
    selectors = [JOB % job for job in jobs]
    asset = selectors[0].replace(jobs[0], ASSET_JOB)[:-1] + ', assetSelection: [{path: ["quper", "table_stats"]}]}'
    again = f'executionMetadata: {{parentRunId: "{run_id}", rootRunId: "{run_id}"}}'
    parts = [
        f"l{number}: launchRun(executionParams: {{runConfigData: $config, selector: {selector}}}) {invalid}"
        for number, selector in enumerate([*selectors, asset])
    ]
    parts += [
        f"m{number}: launchMultipleRuns(executionParamsList: [{{runConfigData: $config, selector: {selector}}}]) {several}"
        for number, selector in enumerate([*selectors, asset])
    ]
    parts += [
        f"r{number}: launchRunReexecution(executionParams: {{runConfigData: $config, selector: {selector}, {again}}}) {invalid}"
        for number, selector in enumerate(selectors)
    ]
    return "mutation All($config: RunConfigData!) {" + " ".join(parts) + "}"


def configurations(receiver: Receiver) -> Iterator[dict[str, Any]]:
    """Yield run configurations that would send a secret to the receiver, or reveal a variable."""
    secret = {"env": "REDSHIFT_PASSWORD"}
    server = {"host": "127.0.0.1", "port": receiver.port}
    for resource in ("redshift", "postgres", "postgres_io_manager"):
        yield {"resources": {resource: {"config": {**server, "ssl": False, "password": secret}}}}
        yield {"resources": {resource: {"config": {"settings": {**server, "redshift_password": secret}}}}}
    yield {"resources": {"io_manager": {"config": {"base_dir": secret}}}}
    broker = f"redis://127.0.0.1:{receiver.port}/0"
    yield {"execution": {"config": {"broker": broker, "backend": secret}}}
    yield {"execution": {"celery": {"config": {"broker": broker}}}}
    yield {
        "execution": {"config": {"job_image": f"127.0.0.1:{receiver.port}/image", "env_vars": ["REDSHIFT_PASSWORD"]}}
    }
    yield {"execution": {"multiprocess": {"config": {"start_method": {"forkserver": {"preload_modules": ["os"]}}}}}}
    yield {"loggers": {"console": {"config": {"name": secret}}}}
    yield {"ops": {"quper__table_stats": {"config": {"full_refresh": secret}}}}
    yield {"ops": {"quper__table_stats": {"config": server}}}


def tags(receiver: Receiver) -> dict[str, str]:
    """Return tags that launchers and executors of Dagster read."""
    pod = {
        "container_config": {
            "image": f"127.0.0.1:{receiver.port}/image",
            "env": [{"name": "REDSHIFT_HOST", "value": "x"}],
        }
    }
    return {
        "dagster-k8s/config": json.dumps(pod),
        "dagster/image": f"127.0.0.1:{receiver.port}/image",
        "dagster/priority": "no number",
        "dagster/max_retries": "no number",
        "dagster-celery/queue": "elsewhere",
        "dagster-celery/priority": "9",
        "qupersync/trigger": "elsewhere",
        "qupersync/cluster": "elsewhere",
        "qupersync/scheduled_at": "never",
    }


def foreign_requests(port: int, body: str) -> Iterator[tuple[str, str, str | None, dict[str, str]]]:
    """Yield the forms in which a web page of another origin can send a GraphQL request: method, path, body, headers."""
    query = json.loads(body)
    path = "/graphql?" + urlencode({"query": query["query"], "variables": json.dumps(query["variables"])})
    own = f"http://127.0.0.1:{port}"
    for method in ("GET", "HEAD"):
        yield method, path, None, {}
        yield method, path, None, {"Accept": "image/*", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}
        yield method, path.replace("/graphql", "/graphql/"), None, {}
        yield (
            method,
            path,
            None,
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        )
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        typed = {"Content-Type": kind} if kind else {}
        for headers in (typed, {**typed, "Origin": "http://elsewhere.example"}, {**typed, "Origin": own}):
            yield "POST", path, "", headers
            yield "POST", "/graphql", body, headers
    yield "POST", path, "", {"Content-Type": "text/plain; application/json"}
    yield "POST", "/graphql", body, {"Content-Type": "text/plain; x=application/json"}
    for origin in (
        "http://elsewhere.example",
        "null",
        f"https://127.0.0.1:{port + 1}",
        f"http://localhost:{port}",
        own + "0",
    ):
        yield "POST", "/graphql", body, {**JSON, "Origin": origin}
    for site in ("cross-site", "same-site"):
        yield "POST", "/graphql", body, {**JSON, "Sec-Fetch-Site": site}
    for host in ("elsewhere.example", f"elsewhere.example:{port}", "127.0.0.1.elsewhere.example", f"[::2]:{port}", ""):
        yield "POST", "/graphql", body, {**JSON, "Host": host}
        yield "POST", "/graphql", body, {**JSON, "Host": host, "Origin": f"http://{host}"}
