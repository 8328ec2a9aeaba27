"""`make up`: the real webserver and daemon on PostgreSQL storage, with failing and killed runs and an outage."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote

import psutil
import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.serve.logins import REFUSED
from qupersync_assets_tests.conftest import PROJECT
from qupersync_assets_tests.support.alert_servers import Webhook
from qupersync_assets_tests.support.attacks import JSON, Receiver, launch_body, send, tags
from qupersync_assets_tests.support.demo_process import Served, execute, has_ended, run_processes, until, waiting
from qupersync_assets_tests.support.echo_server import Parrot
from qupersync_assets_tests.support.escaped_secrets import Secrets, tricky_passwords
from qupersync_assets_tests.support.shown_texts import PAGES, page, shown_texts


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    """Receives the alerts of the served project."""
    with Webhook(token_hex()) as server:
        yield server


@pytest.fixture(scope="module")
def made() -> Secrets:
    return Secrets()


@pytest.fixture(scope="module")
def passwords(sandbox: Sandbox, made: Secrets) -> Iterator[dict[str, str]]:
    """The passwords of the served project in both databases."""
    with tricky_passwords(sandbox, made) as passwords:
        yield passwords


@pytest.fixture(scope="module")
def served(
    sandbox: Sandbox, new_project: Callable[[], Path], webhook: Webhook, made: Secrets, passwords: dict[str, str]
) -> Iterator[Served]:
    """A running server that syncs; at the end Ctrl-C stops all its processes."""
    execute(sandbox.connect_quper, "DROP SCHEMA IF EXISTS quper CASCADE")
    refused = f"json://bot:{quote(made.make('@:/ '), safe='')}@127.0.0.1:1/{made.make('')}"
    # A run that is silent for longer than the delays before retries is dead.
    more = {"SYNC_MAX_RETRIES": "0", "SYNC_RETRY_DELAY": "1", "ALERT_URLS": f"{refused} {webhook.url}"}
    # An evaluation that is killed with a sync has the same cause, and would be reported instead of it.
    more["HEALTH_FINDINGS"] = "false"
    server = Served(sandbox, new_project(), **passwords, **more)
    try:
        until(lambda: "QuperSync is up" in server.output() or server.process.poll() is not None, 120)
        assert server.process.poll() is None, server.output()
        # The address is the last line, and what Dagster writes is in files.
        assert server.output().splitlines()[-1].endswith(f"http://127.0.0.1:{server.port}"), server.output()
        until(lambda: server.complete_run(after=0), 120)
        yield server
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0, server.output()
        ended, alive = psutil.wait_procs(family, timeout=5)
        assert ended and not alive
        assert "Stopped." in server.output()
    finally:
        if server.process.poll() is None:
            server.process.terminate()
            server.process.wait(60)


def test_no_secret_is_shown(served: Served, made: Secrets) -> None:
    """The source of a run repeats the password in its error."""
    gateway = served.sandbox.gateway
    upstream, earlier = gateway.upstream, served.runs("failed", "node_details_sync")
    with Parrot() as parrot:
        gateway.upstream = ("127.0.0.1", parrot.port)
        try:
            failed = until(lambda: set(served.runs("failed", "node_details_sync")) - {*earlier}, 120)
        finally:
            gateway.upstream = upstream
    run_id = failed.pop()
    until(lambda: served.status(run_id) == "FAILURE", 60)
    # An alert for the run was refused, which a tick reports.
    until(lambda: "entry 1 (json) refused the alert" in page(served, PAGES["qupersync_alerts_1_json"]), 120)
    texts = shown_texts(served, run_id)
    assert all(len(text) > 20 for text in texts.values()), {kind: len(text) for kind, text in texts.items()}
    assert "no login with the password '***'" in texts["files"]  # the log of the run server
    for kind in ("log of the run", "tables", "debug file"):
        assert "***" in texts[kind]
    assert not {kind: found for kind, text in texts.items() if (found := made.in_(text))}
    # The next tests need jobs whose failure has not been reported. Scheduled syncs wait after a refused login.
    execute(served.sandbox.connect_quper, "DELETE FROM quper.cluster_connections")
    back = time.time()
    until(lambda: served.complete_run(after=back), 120)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """A foreign server, which receives nothing in any test of this module."""
    with Receiver() as server:
        yield server
        assert server.received == []


def test_tags_of_a_launch_lead_nowhere(served: Served, receiver: Receiver) -> None:
    body = launch_body("node_details_sync", {}, tags(receiver))
    run_id = send(served.port, "POST", "/graphql", body, JSON).json["data"]["launchRun"]["run"]["runId"]
    until(lambda: served.status(run_id) in ("SUCCESS", "FAILURE"), 240)
    assert served.status(run_id) == "SUCCESS"


def test_a_terminated_run_is_logged_as_canceled(served: Served) -> None:
    execute(
        served.sandbox.connect_redshift,
        "ALTER TABLE stv_node_storage_capacity RENAME TO capacity; "
        "CREATE VIEW stv_node_storage_capacity AS SELECT c.* FROM pg_sleep(1000) LEFT JOIN capacity c ON true; "
        "GRANT SELECT ON stv_node_storage_capacity TO qupersync_reader",
    )
    try:
        until(lambda: waiting(served.sandbox.connect_redshift, "wait_event = 'PgSleep'"), 120)
        (run_id,) = served.runs("running", "node_details_sync")
        answer = served.ask(f'mutation {{ terminateRun(runId: "{run_id}") {{ __typename }} }}')
        assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
        # Usually at once; if the run's process misses the signal, when run monitoring ends the run.
        until(lambda: run_id in served.runs("canceled", "node_details_sync"), 150)
    finally:
        execute(
            served.sandbox.connect_redshift,
            # The server still executes the statement of the canceled step, and locks the view.
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'qupersync_reader'; "
            "DROP VIEW stv_node_storage_capacity; ALTER TABLE capacity RENAME TO stv_node_storage_capacity",
        )
    until(lambda: served.status(run_id) == "CANCELED", 90)


def test_a_killed_run_is_closed_reported_and_followed_by_the_next(served: Served, webhook: Webhook) -> None:
    with closing(served.sandbox.connect_quper()) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE quper.vacuum_history")
        until(lambda: waiting(served.sandbox.connect_quper, "wait_event_type = 'Lock'"), 120)
        # Another job, which reads this table, may be the one that waits.
        (run_id,) = until(lambda: served.runs("running", "vacuum_history_sync"), 60)
        for process in run_processes(served.process.pid):
            process.kill()
        blocker.rollback()
    killed_at = time.time()
    until(lambda: served.complete_run(after=killed_at), 120)
    until(lambda: run_id not in served.runs("running", "vacuum_history_sync"), 90)
    assert run_id in served.runs("failed", "vacuum_history_sync")
    assert served.status(run_id) == "FAILURE"
    found = until(lambda: [m for m in webhook.messages if run_id in m and "vacuum_history_sync" in m], 90)
    assert "The process of the run was terminated by signal 9 (SIGKILL)." in found[0]
    until(lambda: any("Recovered at" in message for message in webhook.messages), 90)


@pytest.mark.long
def test_syncs_continue_after_an_outage_of_postgresql(served: Served) -> None:
    (daemon,) = (
        child
        for child in psutil.Process(served.process.pid).children()
        if "dagster-daemon" in " ".join(child.cmdline())
    )
    # With a run in progress, whose end cannot be stored.
    with closing(served.sandbox.connect_quper()) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE quper.vacuum_history")
        until(lambda: waiting(served.sandbox.connect_quper, "wait_event_type = 'Lock'"), 120)
        (run_id,) = until(lambda: served.runs("running", "vacuum_history_sync"), 60)
        worker, *_ = run_processes(served.process.pid)
        served.sandbox.server.stop()
    try:
        worker.kill()
        until(lambda: has_ended(worker), 20)
        daemon.kill()
        until(lambda: "dagster-daemon was killed by SIGKILL" in served.output(), 20)
        # The restarted daemon ends soon, because PostgreSQL is down.
        until(
            lambda: re.search(r"dagster-daemon ended with exit code 1 .*; it is started again in 2 s", served.output()),
            90,
        )
    finally:
        served.sandbox.server.start()
    back = time.time()
    until(lambda: served.complete_run(after=back), 120)
    assert not served.open_runs(before=back)
    until(served.answers, 60)  # the webserver first has to notice that its old connections are closed
    assert served.status(run_id) == "FAILURE"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SYNC_INTERVAL": "abc"}, ["SYNC_INTERVAL", "abc"]),
        ({"POSTGRES_HOST": ""}, ["POSTGRES_HOST", "not set"]),
        ({"POSTGRES_PORT": "1"}, ["refused", "Check POSTGRES_HOST and POSTGRES_PORT"]),
        ({"REDSHIFT_PASSWORD": "wrong"}, ["28P01", "Check REDSHIFT_USER and REDSHIFT_PASSWORD"]),
    ],
)
def test_bad_settings_are_one_clear_message(
    sandbox: Sandbox, passwords: dict[str, str], project: Path, variables: dict[str, str], words: list[str]
) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "qupersync_assets.serve"],
        cwd=project,
        env={**os.environ, **sandbox.environment(), **passwords, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == (REFUSED if "REDSHIFT_PASSWORD" in variables else 1)
    assert all(word in answer.stderr for word in words), answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "exported"),
    [([], {}, "unset"), ([], {"UI_PORT": "3001"}, "3001"), (["PORT=3002"], {"UI_PORT": "3001"}, "3002")],
)
def test_make_exports_the_port_only_if_it_is_given(
    arguments: list[str], variables: dict[str, str], exported: str
) -> None:
    probe = ["--silent", "--eval", "probe: ; @echo $${UI_PORT-unset}", "probe"]
    others = {name: value for name, value in os.environ.items() if name not in ("UI_PORT", "PORT")}
    answer = subprocess.run(["make", *probe, *arguments], cwd=PROJECT, env=others | variables, capture_output=True)
    assert answer.stdout.decode().strip() == exported
