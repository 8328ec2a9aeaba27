"""`qupersync metrics`: values from quper.sync_logs, outages of PostgreSQL, health, and the queries of the dashboard."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dagster as dg
import promql_parser
import pytest
import sqlalchemy as sa
from dagster._daemon.types import DaemonHeartbeat
from prometheus_client.parser import text_string_to_metric_families

from qupersync_assets.monitoring import health
from qupersync_assets.monitoring.server import metrics_server
from qupersync_assets.postgres.job_status import KINDS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import versions
from qupersync_assets.settings import Settings
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.integration import Command, Query, Sync

BOARD = Path(__file__).parents[3] / "deploy" / "grafana" / "qupersync.json"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def base(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server with the settings of the environment."""
    monkeypatch.chdir(tmp_path)
    with serving() as address:
        yield address


@contextmanager
def serving() -> Iterator[str]:
    with metrics_server(Settings.load(), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(base: str) -> Samples:
    code, text = get(f"{base}/metrics")
    assert code == 200
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    counters = {family.name for family in families if family.type == "counter"}
    assert counters <= {"qupersync_runs", "qupersync_rows"}
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def of(found: Samples, name: str, job: str, **labels: str) -> float | None:
    labels |= {"cluster": "sandbox", "sync_job": job}
    return found.get((f"qupersync_{name}", frozenset(labels.items())))


def test_metrics_equal_the_log(base: str, sync: Sync, source: Query, target: Query) -> None:
    source("INSERT INTO stv_node_storage_capacity SELECT n, 100, 900 FROM generate_series(1, 7) n")
    source("INSERT INTO stv_node_storage_capacity VALUES (NULL, 1, 2)")
    assert sync("node_details", "applications").success
    source("UPDATE stv_node_storage_capacity SET used = 101 WHERE node < 3")
    assert sync("node_details").success
    source("ALTER TABLE sys_query_history RENAME query_id TO renamed")
    assert not sync("query_history").success
    source("ALTER TABLE sys_query_history RENAME renamed TO query_id")
    # A run before midnight, a running one, and one of another installation.
    target(
        "INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at, completed_at, rows_extracted) VALUES "
        "('sandbox', 'node_details_sync', 'old', 'failed', now() - interval '2 days', now() - interval '25 h', 5), "
        "('sandbox', 'table_stats_sync', 'current', 'running', now(), NULL, 5), "
        "('other', 'node_details_sync', 'other', 'success', now(), now(), 5)"
    )
    found = samples(base)
    assert found["qupersync_up", frozenset()] == 1
    assert not [labels for _, labels in found if ("cluster", "other") in labels]
    for spec in default_specs():
        job = spec.sync_job_id
        own = f"FROM quper.sync_logs WHERE cluster = 'sandbox' AND sync_job_id = '{job}'"
        ended = f"{own} AND status <> 'running' AND run_id <> 'old'"  # that one was not closed by a load
        columns = ", ".join(KINDS.values())
        last = target(
            f"SELECT {columns}, status, duration_ms / 1000.0, extract(epoch FROM completed_at) {own} AND status <> 'running' ORDER BY started_at DESC LIMIT 1"
        )
        for kind, *rows in zip(KINDS, *(row[: len(KINDS)] for row in last), strict=True) if last else ():
            assert [of(found, "last_run_rows", job, kind=kind)] == rows
        assert of(found, "last_run_duration_seconds", job) == (float(last[0][-2]) if last else None)
        assert of(found, "last_run_timestamp_seconds", job) == pytest.approx(float(last[0][-1]) if last else 0)
        for status in ("success", "failed", "canceled", "unavailable", "skipped"):
            assert of(found, "last_run_status", job, status=status) == float(bool(last) and last[0][-3] == status)
            (runs,) = target(f"SELECT count(*) {ended} AND status = '{status}'")[0]
            assert of(found, "runs_total", job, status=status) == runs
        for kind, column in KINDS.items():
            (rows,) = target(f"SELECT coalesce(sum({column}), 0) {ended}")[0]
            assert of(found, "rows_total", job, kind=kind) == rows
        ((count, seconds, fast),) = target(
            "SELECT count(*), coalesce(sum(duration_ms), 0) / 1000.0, count(*) FILTER (WHERE duration_ms <= 15000) "
            f"{ended} AND status = 'success'"
        )
        assert of(found, "run_duration_seconds_count", job) == count
        assert of(found, "run_duration_seconds_sum", job) == pytest.approx(float(seconds))
        assert of(found, "run_duration_seconds_bucket", job, le="15") == fast
        assert of(found, "run_duration_seconds_bucket", job, le="+Inf") == count
        (success,) = target(f"SELECT extract(epoch FROM max(completed_at)) {own} AND status = 'success'")[0]
        assert of(found, "last_success_timestamp_seconds", job) == pytest.approx(float(success or 0))
        assert of(found, "running", job) == (job == "table_stats_sync")
    assert of(found, "failed_runs_since_success", "query_history_sync") == 1
    assert of(found, "failed_runs_since_success", "node_details_sync") == 0
    assert of(found, "last_run_rows", "node_details_sync", kind="skipped") == 1
    assert of(found, "last_run_rows", "node_details_sync", kind="updated") == 2
    lag = of(found, "lag_seconds", "node_details_sync")
    assert lag is not None and 0 <= lag < 60
    assert of(found, "lag_seconds", "table_stats_sync") is None


def test_counters_survive_a_purge_and_a_restart(base: str, sync: Sync, source: Query, target: Query) -> None:
    source("INSERT INTO stv_node_storage_capacity SELECT n, 100, 900 FROM generate_series(1, 7) n")
    assert sync("node_details").success
    target("DELETE FROM quper.sync_logs")
    with serving() as other:
        found = samples(other)
    assert of(found, "rows_total", "node_details_sync", kind="inserted") == 7
    assert of(found, "last_run_timestamp_seconds", "node_details_sync") == 0
    assert sync("node_details").success
    found = samples(base)
    assert of(found, "rows_total", "node_details_sync", kind="extracted") == 14
    assert of(found, "runs_total", "node_details_sync", status="success") == 2


def test_a_scrape_is_one_statement(two_clusters: None, postgres: PostgresResource) -> None:
    statements: list[str] = []

    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    with serving() as other:
        samples(other)  # connects
        sa.event.listen(sa.Engine, "before_cursor_execute", record)
        try:
            found = samples(other)
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", record)
    assert len(statements) == 1
    assert sum(name == "qupersync_running" for name, _ in found) == 2 * len(default_specs())


def test_dagster_is_part_of_the_metrics(
    qupersync: Command, dagster_home: Path, source: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    source("INSERT INTO stv_node_storage_capacity VALUES (NULL, 1, 2)")
    assert qupersync("sync", "node_details", "applications").code == 1
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance, serving() as base:
        for kind in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(datetime.now(UTC).timestamp() - 50, kind, "id", []))
        found = samples(base)
    assert of(found, "check_status", "node_details_sync", check="no_skipped_rows") == 2
    assert of(found, "check_status", "application_sync", check="no_skipped_rows") == 0
    assert of(found, "check_status", "table_stats_sync", check="no_skipped_rows") is None
    assert found["qupersync_schedule_on", frozenset()] == 1
    assert 50 <= found["qupersync_daemon_heartbeat_age_seconds", frozenset()] < 110
    assert qupersync("sync", "node_details", "--json").code == 1
    monkeypatch.setenv("REDSHIFT_PORT", "1")
    assert qupersync("sync", "node_details").code == 1  # a failed job has no current result of a check
    with serving() as base:
        assert of(samples(base), "check_status", "node_details_sync", check="no_skipped_rows") is None


def test_the_build_is_named(base: str, postgres: PostgresResource) -> None:
    (labels,) = (dict(labels) for name, labels in samples(base) if name == "qupersync_build_info")
    assert labels == {"version": version("qupersync"), "dagster": version("dagster"), "schema": versions()[-1]}


def test_outage_of_postgresql_is_reported_and_survived(
    base: str, sandbox: Any, postgres: PostgresResource, caplog: pytest.LogCaptureFixture
) -> None:
    assert samples(base)["qupersync_up", frozenset()] == 1
    port = sandbox.server.port
    sandbox.server.stop()
    try:
        for _ in range(3):
            found = samples(base)
            assert {name for name, _ in found} == {"qupersync_up", "qupersync_build_info"}
            assert found["qupersync_up", frozenset()] == 0
        code, text = get(f"{base}/health")
        found = json.loads(text)
        assert code == 503 and not found["ok"] and not found["postgres"]["ok"] and not found["daemon"]["ok"]
        assert "refused" in found["postgres"]["detail"]
    finally:
        sandbox.server.start()
    assert sandbox.server.port == port
    assert samples(base)["qupersync_up", frozenset()] == 1
    # One line for the reason, however often it is scraped, and one for the end.
    down, up = (record.getMessage() for record in caplog.records if "qupersync_up" in record.getMessage())
    assert "Connection refused" in down and "POSTGRES_PORT" in down and "1 again" in up


def test_metrics_before_the_first_run_have_every_job(base: str) -> None:
    found = samples(base)
    assert found["qupersync_up", frozenset()] == 1
    assert all(of(found, "last_success_timestamp_seconds", spec.sync_job_id) == 0 for spec in default_specs())


def test_the_interval_is_that_of_the_job(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDSHIFT_SYNC_INTERVAL", "900")
    monkeypatch.setenv("SYNC_JOB_INTERVALS", "node_details_sync=3600")
    with serving() as base:
        found = samples(base)
    assert of(found, "interval_seconds", "node_details_sync") == 3600
    assert of(found, "interval_seconds", "query_history_sync") == 900


def test_health_of_databases_and_daemon(
    environment: dict[str, str], dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "REDSHIFT_SECONDS", 0.0)
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance, serving() as base:

        def beat(age: float) -> tuple[int, Any]:
            for kind in instance.get_required_daemon_types():
                instance.add_daemon_heartbeat(DaemonHeartbeat(datetime.now(UTC).timestamp() - age, kind, "id", []))
            code, text = get(f"{base}/health?redshift=1")
            assert not any(environment[f"{side}_PASSWORD"] in text for side in ("REDSHIFT", "POSTGRES"))
            return code, json.loads(text)

        code, found = beat(age=5)
        assert code == 200 and found["ok"] and found["redshift"]["sandbox"]["ok"]
        code, found = beat(age=500)
        assert code == 503 and not found["daemon"]["ok"] and found["postgres"]["ok"]
        assert "no daemon" in found["daemon"]["detail"]
        monkeypatch.setenv("REDSHIFT_PASSWORD", "wrong-" + environment["REDSHIFT_PASSWORD"])
        with serving() as other:
            beat(age=5)
            code, text = get(f"{other}/health?redshift=1")
            found = json.loads(text)
        assert code == 503 and found["daemon"]["ok"] and not found["redshift"]["sandbox"]["ok"]
        assert "REDSHIFT_PASSWORD" in found["redshift"]["sandbox"]["detail"]
        assert environment["REDSHIFT_PASSWORD"] not in text


def test_health_of_redshift_is_cached(base: str, source: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers() -> bool:
        return bool(json.loads(get(f"{base}/health?redshift=1")[1])["redshift"]["sandbox"]["ok"])

    assert answers()
    source("ALTER ROLE qupersync_reader NOLOGIN")
    try:
        source("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'qupersync_reader'")
        assert answers()
        monkeypatch.setattr(health, "REDSHIFT_SECONDS", 0.0)
        assert not answers()
    finally:
        source("ALTER ROLE qupersync_reader LOGIN")
    assert answers()


def test_health_contacts_redshift_on_request_only(base: str, source: Query) -> None:
    sessions = "SELECT pid, backend_start FROM pg_stat_activity WHERE usename = 'qupersync_reader'"
    before = source(sessions)
    assert "redshift" not in json.loads(get(f"{base}/health")[1])
    assert "redshift" not in json.loads(get(f"{base}/health?redshift=0")[1])
    assert source(sessions) == before
    assert json.loads(get(f"{base}/health?redshift=1")[1])["redshift"]["sandbox"]["ok"]
    assert source(sessions) != before


def test_health_without_an_instance_is_not_ok(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    code, text = get(f"{base}/health")
    assert code == 503 and "DAGSTER_HOME" in json.loads(text)["daemon"]["detail"]


@pytest.mark.parametrize(("site", "code"), [("cross-site", 403), ("same-site", 403), ("none", 200)])
def test_another_web_page_cannot_ask(base: str, site: str, code: int) -> None:
    request = urllib.request.Request(f"{base}/", headers={"Sec-Fetch-Site": site})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == code
    except urllib.error.HTTPError as error:
        assert error.code == code


@pytest.mark.parametrize(("path", "code"), [("/", 200), ("/metric", 404), ("/health/x", 404)])
def test_unknown_paths_are_not_found(base: str, path: str, code: int) -> None:
    assert get(base + path)[0] == code


def queries(board: Any) -> dict[str, str]:
    """The PromQL of the dashboard by panel, with its variables replaced like in Grafana."""
    found = {f"{p['title']} {t['refId']}": t["expr"] for p in board["panels"] for t in p["targets"]}
    variables = {v["name"]: v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"}
    for name, query in variables.items():
        label = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert label
        found[name] = f"count by ({label[2]}) ({label[1]})"
    return {name: re.sub(r"\$(cluster|sync_job)", ".*", query) for name, query in found.items()}


def selectors(node: Any) -> Iterator[Any]:
    """The vector selectors of a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "args"):
        inner = getattr(node, name, None)
        for part in inner if isinstance(inner, list) else [inner] if inner is not None else []:
            yield from selectors(part)


def test_dashboard_queries_existing_metrics(
    qupersync: Command, dagster_home: Path, matches: Callable[[Samples, Any], list[Any]]
) -> None:
    assert qupersync("sync", "node_details").code == 0
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance, serving() as base:
        for kind in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(datetime.now(UTC).timestamp(), kind, "id", []))
        found = samples(base)
    asked = queries(json.loads(BOARD.read_text("utf-8")))
    assert len(asked) > 15
    used = set()
    for name, query in asked.items():
        parts = list(selectors(promql_parser.parse(query)))
        assert parts, name
        for selector in parts:
            used.add(selector.name)
            assert matches(found, selector), f"{name}: {query}"
    parts_of_histograms = re.compile(r"_(sum|count|created)$")
    assert used == {name for name, _ in found if not parts_of_histograms.search(name)}


@pytest.fixture
def matches() -> Callable[[Samples, Any], list[Any]]:
    """The samples that a vector selector selects."""

    def select(found: Samples, selector: Any) -> list[Any]:
        def fits(labels: dict[str, str], matcher: Any) -> bool:
            value = labels.get(matcher.name, "")
            if matcher.op == promql_parser.MatchOp.Equal:
                return bool(value == matcher.value)
            assert matcher.op == promql_parser.MatchOp.Re
            return re.fullmatch(matcher.value, value) is not None and matcher.name in labels

        return [
            labels
            for name, labels in found
            if name == selector.name and all(fits(dict(labels), m) for m in selector.matchers.matchers)
        ]

    return select
