"""Two clusters in one target: equal keys stay apart, and the one that is down leaves the other alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import dagster as dg
import pandas as pd
import psycopg2
import pytest
from typer.testing import CliRunner

from qupersync_assets.cli import app
from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import IO_MANAGER_KEY, JOB_NAME
from qupersync_assets.defs.partitions import partitions_of
from qupersync_assets.defs.retention_job import MAINTENANCE_NAME
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sandbox.warehouse.access import set_access
from qupersync_assets.sandbox.warehouse.databases import create_user, create_warehouse
from qupersync_assets.settings import Settings
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.integration.alerts.test_alerts import Watcher
from qupersync_assets_tests.integration.monitoring.test_metrics import get, samples, serving
from qupersync_assets_tests.support.alert_servers import Webhook
from qupersync_assets_tests.support.integration import Command, Query, checks

READER = "south_reader"
PASSWORD = "hunter2-of-south"
TABLES = ("node_details", "query_history")
Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture(scope="module")
def warehouse(sandbox: Sandbox) -> str:
    """Another database that plays Redshift, with a user and a password of its own."""
    reader, owner = (sandbox.environment()[f"{side}_PASSWORD"] for side in ("REDSHIFT", "POSTGRES"))
    create_warehouse(sandbox.server, reader, owner, database="south", cluster="south")
    with closing(psycopg2.connect(sandbox.server.dsn("south"))) as connection:
        create_user(connection, READER, PASSWORD)
        with connection, connection.cursor() as cursor:
            set_access(cursor, READER, superuser=True)
    return "south"


@pytest.fixture
def south(
    sandbox: Sandbox, warehouse: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Gateway]:
    """The port of the second cluster; the settings name both, `north` and `far-south`."""
    with Gateway((sandbox.server.host, sandbox.server.port)) as gateway:
        for name in ("CLUSTER_NAME", "REDSHIFT_HOST", "REDSHIFT_PORT", "REDSHIFT_PASSWORD"):
            monkeypatch.delenv(name)
        north = {name: environment[f"REDSHIFT_{name}"] for name in ("HOST", "PORT", "PASSWORD")}
        other = {"HOST": gateway.host, "PORT": str(gateway.port), "PASSWORD": PASSWORD}
        variables = {
            "CLUSTERS": "north,far-south",
            **{f"REDSHIFT_NORTH_{name}": value for name, value in north.items()},
            **{f"REDSHIFT_FAR_SOUTH_{name}": value for name, value in other.items()},
            "REDSHIFT_FAR_SOUTH_USER": READER,
            "REDSHIFT_FAR_SOUTH_DATABASE": warehouse,
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield gateway


@pytest.fixture
def run(south: Gateway, instance: dg.DagsterInstance) -> Run:
    """Runs all sync assets, or those of some tables, of a cluster."""

    def run(cluster: str | None, *tables: str) -> dg.ExecuteInProcessResult:
        return (
            build_definitions(Settings.load())
            .resolve_job_def(JOB_NAME)
            .execute_in_process(
                instance=instance,
                partition_key=cluster,
                raise_on_error=False,
                asset_selection=[dg.AssetKey(["quper", table]) for table in tables] or None,
            )
        )

    return run


@pytest.fixture
def filled(sandbox: Sandbox, warehouse: str, source: Query) -> None:
    """The same keys with other values in both."""
    for database, capacity, queries in (("redshift", 100, 3), ("south", 200, 2)):
        with closing(psycopg2.connect(sandbox.server.dsn(database))) as connection, connection:
            connection.cursor().execute(
                "TRUNCATE stv_node_storage_capacity, sys_query_history; "
                f"INSERT INTO stv_node_storage_capacity VALUES (0, 1, {capacity}), (1, 1, {capacity}); "
                "INSERT INTO sys_query_history (user_id, query_id, start_time, username) "
                f"SELECT 100, n, getdate(), current_database() FROM generate_series(1, {queries}) n"
            )


def test_equal_keys_of_two_clusters_are_two_rows(filled: None, run: Run, target: Query) -> None:
    for cluster in ("north", "far-south", "north"):
        result = run(cluster, *TABLES)
        assert result.success
        counted = {"north": 3, "far-south": 2}[cluster]
        [event] = result.asset_materializations_for_node("quper__query_history")
        assert (event.partition, event.metadata["dagster/row_count"].value) == (cluster, counted)
        assert checks(result, "no_skipped_rows")["query_history"].partition == cluster
    assert target(
        "SELECT cluster, node, capacity_mb FROM quper.node_details WHERE removed_at IS NULL ORDER BY 1, 2"
    ) == [*(("far-south", node, 200) for node in (0, 1)), *(("north", node, 100) for node in (0, 1))]
    assert target("SELECT cluster, query_id, user_name FROM quper.query_history WHERE query_id < 9 ORDER BY 1, 2") == [
        *(("far-south", query, "south") for query in (1, 2)),
        *(("north", query, "redshift") for query in (1, 2, 3)),
    ]
    logs = "SELECT cluster, status, count(*) FROM quper.sync_logs GROUP BY 1, 2 ORDER BY 1"
    assert target(logs) == [("far-south", "success", 2), ("north", "success", 4)]


def test_an_unreachable_cluster_does_not_affect_the_other(
    filled: None, run: Run, south: Gateway, target: Query, instance: dg.DagsterInstance
) -> None:
    assert run("far-south", *TABLES).success
    south.stop()
    down = run("far-south", *TABLES)
    assert not down.success
    assert run("north", *TABLES).success
    rows = "SELECT cluster, count(*) FROM quper.node_details GROUP BY 1 ORDER BY 1"
    assert target(rows) == [("far-south", 2), ("north", 2)]
    failed = target("SELECT cluster, run_id, attempts, error FROM quper.sync_logs WHERE status = 'failed'")
    assert len(failed) == len(TABLES)
    for cluster, run_id, attempts, error in failed:
        assert (cluster, run_id, attempts) == ("far-south", down.run_id, 2)
        assert f"127.0.0.1:{south.port}" in error and "refused" in error
        assert "Check REDSHIFT_FAR_SOUTH_HOST and REDSHIFT_FAR_SOUTH_PORT." in error
    assert down.dagster_run.tags["qupersync/cluster"] == "far-south"

    # As if the run had been killed before it could write a row: they are added for its own cluster.
    target("DELETE FROM quper.sync_logs WHERE status = 'failed'")
    definitions = build_definitions(Settings.load())
    resources = {"postgres": (definitions.resources or {})["postgres"]}
    with dg.build_sensor_context(instance, cursor="1", resources=resources) as context:
        definitions.resolve_sensor_def("qupersync_close_stale_rows").evaluate_tick(context)
    assert target("SELECT DISTINCT cluster, status, run_id FROM quper.sync_logs WHERE status <> 'success'") == [
        ("far-south", "failed", down.run_id)
    ]


def test_an_error_names_the_variables_of_its_cluster_and_no_secret(
    run: Run, target: Query, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDSHIFT_FAR_SOUTH_PASSWORD", "wrong-s3cret")
    result = run("far-south", "node_details")
    [(cluster, error)] = target("SELECT cluster, error FROM quper.sync_logs")
    assert cluster == "far-south"
    assert "Check REDSHIFT_FAR_SOUTH_USER and REDSHIFT_FAR_SOUTH_PASSWORD." in error
    story = "\n".join(str(entry) for entry in instance.all_logs(result.run_id))
    assert not any(secret in story for secret in ("wrong-s3cret", PASSWORD))


def test_a_run_without_a_cluster_is_refused_with_the_choices(run: Run) -> None:
    result = run(None, "node_details")
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "choose a partition of north, far-south" in str(failure.step_failure_data.error)


def test_the_doctor_checks_each_cluster(south: Gateway) -> None:
    def report() -> list[dict[str, Any]]:
        findings: list[dict[str, Any]] = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)["findings"]
        return findings

    assert {finding["cluster"] for finding in report() if finding["ok"]} == {"north", "far-south", None}
    south.stop()
    assert [(f["cluster"], f["what"]) for f in report() if not f["ok"]] == [("far-south", "login")]
    assert "redshift far-south, login" in CliRunner().invoke(app, ["doctor"]).stdout


def test_downstream_gets_the_rows_of_its_partition(filled: None, run: Run) -> None:
    for cluster in ("north", "far-south"):
        assert run(cluster, "node_details").success
    seen = []
    settings = Settings.load()
    upstream = dg.AssetSpec(["quper", "node_details"], partitions_def=partitions_of(settings))
    nodes = {"nodes": dg.AssetIn(key=upstream.key, input_manager_key=IO_MANAGER_KEY)}

    @dg.asset(ins=nodes, partitions_def=upstream.partitions_def)
    def per_cluster(nodes: pd.DataFrame) -> None:
        seen.append(sorted(set(nodes["cluster"])))

    @dg.asset(ins=nodes)
    def over_all(nodes: pd.DataFrame) -> None:
        seen.append(sorted(set(nodes["cluster"])))

    resources = dict(build_definitions(settings).resources or {})
    for asset, partition in ((per_cluster, "far-south"), (over_all, None)):
        dg.materialize([upstream, asset], resources=resources, partition_key=partition)
    assert seen == [["far-south"], ["far-south", "north"]]


def test_maintenance_covers_all_clusters_also_those_that_no_setting_names(
    run: Run, target: Query, instance: dg.DagsterInstance
) -> None:
    for cluster in ("north", "far-south"):
        assert run(cluster, "node_details").success
    target(
        "INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, started_at, status) "
        "SELECT unnest(ARRAY['north', 'far-south', 'removed']), 'x', 'x', '2001-01-01', 'failed'"
    )
    job = build_definitions(Settings.load()).resolve_job_def(MAINTENANCE_NAME)
    result = job.execute_in_process(instance=instance)
    assert target("SELECT cluster FROM quper.sync_logs WHERE sync_job_id = 'x'") == []
    assert any("3 quper.sync_logs" in str(entry) for entry in instance.all_logs(result.run_id))


def test_the_command_line_and_the_metrics_show_both_clusters(
    filled: None, qupersync: Command, south: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = qupersync("sync", "node_details", "--json")
    assert both.code == 0
    assert [(job["cluster"], job["status"]) for job in both.json["jobs"]] == [
        ("north", "success"),
        ("far-south", "success"),
    ]
    monkeypatch.setenv("REDSHIFT_FAR_SOUTH_PORT", "1")
    # One is down: the other is synced.
    half = qupersync("sync", "node_details")
    assert half.code == 1 and "1 failed, 1 success" in half.out and "far-south" in half.out
    assert qupersync("sync", "node_details", "--cluster", "north").code == 0
    unknown = qupersync("status", "--cluster", "west")
    assert unknown.code == 2 and "north, far-south" in unknown.err

    jobs = {(j["cluster"], j["sync_job_id"]): j for j in qupersync("status", "--json").json["jobs"]}
    assert len(jobs) == 2 * len(default_specs())
    assert jobs["north", "node_details_sync"]["failures_since_success"] == 0
    assert jobs["far-south", "node_details_sync"]["failures_since_success"] == 1
    assert len(qupersync("history", "--cluster", "far-south", "--json").json) == 2
    table = qupersync("status").out
    assert "Cluster north" in table and "Cluster far-south" in table
    assert max(map(len, qupersync("history").out.splitlines()[:6])) <= 80
    assert qupersync("purge", "--dry-run").code == 0

    with serving() as base:
        found = samples(base)
        health = json.loads(get(f"{base}/health?redshift=1")[1])
    failures = {
        dict(labels)["cluster"]: value
        for (name, labels), value in found.items()
        if name == "qupersync_failed_runs_since_success" and ("sync_job", "node_details_sync") in labels
    }
    assert failures == {"north": 0, "far-south": 1}
    assert {name: of["ok"] for name, of in health["redshift"].items()} == {"north": True, "far-south": False}


def test_an_alert_names_the_cluster(
    filled: None,
    run: Run,
    south: Gateway,
    instance: dg.DagsterInstance,
    webhook: Webhook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = Watcher(instance, "json")
    monkeypatch.setenv("REDSHIFT_FAR_SOUTH_PORT", "1")
    for cluster in ("north", "far-south", "north", "far-south"):
        run(cluster, "node_details")
    watcher.poll()
    assert [m.splitlines()[0] for m in webhook.messages] == ["QuperSync, cluster far-south: Redshift is unreachable"]
