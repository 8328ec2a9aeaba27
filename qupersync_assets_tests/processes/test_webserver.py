"""The webserver as a process: attacks of other pages and of users, a read-only UI, and the options of dagster-webserver.

Dagster's storage is a folder, and no daemon starts the runs that are queued.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from qupersync_assets_tests.conftest import PROJECT
from qupersync_assets_tests.support.attacks import (
    JSON,
    Receiver,
    configurations,
    foreign_requests,
    launch_body,
    launches_of_all,
    send,
)
from qupersync_assets_tests.support.demo_process import free_port, until
from qupersync_assets_tests.support.shown_texts import REPOSITORY

SECRET = token_hex(8)
PREFIX = "/ui"
RUNS = "{ runsOrError { ... on Runs { results { runId tags { key value } } } } }"
PERMISSIONS = """{ permissions { permission value }
  workspaceOrError { ... on Workspace { locationEntries { name permissions { permission value } } } } }"""


@contextmanager
def serving(home: Path, *options: str, **variables: str) -> Iterator[int]:
    """Run the webserver with the definitions of the placeholders; yield its port."""
    port = free_port()
    (home / "dagster.yaml").write_text("telemetry: { enabled: false }\n")
    code = ["-w", str(PROJECT / "workspace.yaml")]
    with (home / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "qupersync_assets.serve.webserver", *code, "-p", str(port), *options],
            env={**os.environ, "DAGSTER_HOME": str(home), "REDSHIFT_PASSWORD": SECRET, **variables},
            stdout=log,
            stderr=log,
        )
        try:

            def is_up() -> bool:
                assert process.poll() is None, (home / "log").read_text("utf-8")
                with suppress(OSError):
                    path = PREFIX if "--path-prefix" in options else ""
                    return send(port, "GET", f"{path}/server_info").status == 200
                return False

            until(is_up, 240)
            yield port
        finally:
            process.terminate()
            assert process.wait(60) is not None


def ask(port: int, query: str, path: str = "/graphql", **variables: Any) -> Any:
    body = json.dumps({"query": query, "variables": variables})
    return send(port, "POST", path, body, JSON).json["data"]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a webserver that may launch runs."""
    with serving(tmp_path_factory.mktemp("home")) as found:
        yield found


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a webserver below a path that may not."""
    options = ["--path-prefix", PREFIX, "--live-data-poll-rate", "4321"]
    with serving(tmp_path_factory.mktemp("home"), *options, UI_READ_ONLY="true") as found:
        yield found


def test_a_page_of_another_origin_launches_nothing(port: int) -> None:
    with Receiver() as receiver:
        for config in ({}, next(configurations(receiver))):
            body = launch_body("qupersync_main", config, {"from": "elsewhere"})
            for method, path, given, headers in foreign_requests(port, body):
                answer = send(port, method, path, given, headers)
                assert answer.status in (400, 403, 405, 415), (method, path, headers)
                assert answer.headers["X-Frame-Options"] == "DENY" and "runId" not in answer.body
        assert ask(port, RUNS) == {"runsOrError": {"results": []}}
        # The same request of a page of the UI is executed.
        own = {**JSON, "Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
        answer = send(port, "POST", "/graphql", launch_body("no_such_job", {}), own)
        assert answer.json["data"]["launchRun"]["__typename"] == "PipelineNotFoundError"
        assert receiver.received == []


def test_a_launch_chooses_neither_servers_nor_secrets(port: int) -> None:
    query = f"{{ repositoryOrError(repositorySelector: {REPOSITORY}) {{ ... on Repository {{ jobs {{ name }} }} }} }}"
    names = [job["name"] for job in ask(port, query)["repositoryOrError"]["jobs"]]
    assert {"qupersync_main", "qupersync_maintenance", "table_stats_sync"} <= {*names}
    with Receiver() as receiver:
        for config in configurations(receiver):
            mutation = json.dumps({"query": launches_of_all(names, token_hex(16)), "variables": {"config": config}})
            answer = send(port, "POST", "/graphql", mutation, JSON)
            results = answer.json["data"].values()
            found = {r.get("__typename") or r["launchMultipleRunsResult"][0]["__typename"] for r in results}
            assert found == {"RunConfigValidationInvalid"}, (config, answer.body)
            assert SECRET not in answer.body
        assert receiver.received == []
    assert ask(port, RUNS) == {"runsOrError": {"results": []}}


def test_a_read_only_ui_changes_nothing(read_only: int) -> None:
    path = f"{PREFIX}/graphql"
    text = json.dumps(ask(read_only, PERMISSIONS, path))
    assert text.count('"permission": "launch_pipeline_execution", "value": false') == 2
    assert '"value": true' not in text
    launched = send(read_only, "POST", path, launch_body("node_details_sync", {}), JSON)
    assert launched.json["data"] == {"launchRun": {"__typename": "UnauthorizedError"}}
    reported = send(read_only, "POST", f"{PREFIX}/report_asset_materialization/quper/table_stats", "{}", JSON)
    assert reported.status in (401, 403), reported.body
    assert ask(read_only, RUNS, path) == {"runsOrError": {"results": []}}


def test_checks_hold_below_a_path_and_options_are_those_of_dagster(read_only: int) -> None:
    page = send(read_only, "GET", f"{PREFIX}/", headers={"Accept": "text/html"})
    assert page.status == 200 and "4321" in page.body and page.headers["X-Frame-Options"] == "DENY"
    assert send(read_only, "GET", f"{PREFIX}/graphql?query=%7Bversion%7D").status == 405
    assert send(read_only, "GET", f"{PREFIX}/", headers={"Host": "elsewhere.example"}).status == 400
