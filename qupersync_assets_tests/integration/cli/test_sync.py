"""`qupersync sync`: results, messages, records and exit codes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from qupersync_assets.postgres import sync_logs
from qupersync_assets.postgres.advisory_lock import JobConnection
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.integration import Command, Query

NODES = "INSERT INTO stv_node_storage_capacity SELECT n, 100, 900 FROM generate_series(0, %s) n"


def test_named_jobs_are_synced_and_reported(qupersync: Command, source: Query, target: Query) -> None:
    source(NODES, [4])
    done = qupersync("sync", "node_details_sync", "quper.applications", "node_details", "--json")
    assert done.code == 0 and done.json["ok"] and not done.json["in_dagster"]
    assert [job["sync_job_id"] for job in done.json["jobs"]] == ["application_sync", "node_details_sync"]
    assert done.json["jobs"][1]["rows_inserted"] == 5
    run_id = done.json["jobs"][0]["run_id"]
    logged = target(
        "SELECT sync_job_id, status, rows_extracted, duration_ms FROM quper.sync_logs WHERE run_id = %s ORDER BY 1",
        [run_id],
    )
    assert logged == [
        tuple(job[name] for name in ("sync_job_id", "status", "rows_extracted", "duration_ms"))
        for job in done.json["jobs"]
    ]
    # In a pipe: one line per job, and a note that the UI does not show the run.
    assert "DAGSTER_HOME is not set" in done.err
    assert "node_details_sync: success, 5 rows in" in done.err


def test_all_jobs_are_synced_by_default_in_eighty_columns(qupersync: Command, source: Query) -> None:
    source(NODES, [1])
    done = qupersync("sync")
    assert done.code == 0
    assert f"Jobs: {len(default_specs())} success" in done.out
    assert all(spec.sync_job_id in done.out for spec in default_specs())
    assert max(map(len, done.out.splitlines())) <= 80


def test_failed_job_is_named_and_the_others_are_loaded(qupersync: Command, source: Query) -> None:
    source("ALTER TABLE sys_query_history RENAME query_id TO renamed")
    try:
        done = qupersync("sync", "query_history", "node_details", "--json")
    finally:
        source("ALTER TABLE sys_query_history RENAME renamed TO query_id")
    assert done.code == 1 and not done.json["ok"]
    failed, succeeded = done.json["jobs"][1], done.json["jobs"][0]
    assert (failed["status"], succeeded["status"]) == ("failed", "success")
    assert "query_id" in failed["error"]


def test_unreachable_source_fails_every_job(qupersync: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDSHIFT_PORT", "1")
    done = qupersync("sync", "node_details", "applications")
    assert done.code == 1
    # The jobs have one error, which is printed once.
    assert "Jobs: 2 failed" in done.out and done.out.count("Check REDSHIFT_HOST and REDSHIFT_PORT") == 1
    assert "application_sync, node_details_sync: No connection to Redshift" in done.out
    assert done.err.count("_sync: failed, 0 rows") == 2


def test_lost_rows_are_named_and_the_exit_code_is_1(qupersync: Command, source: Query, dagster_home: Path) -> None:
    source(NODES, [0])
    source("UPDATE stv_node_storage_capacity SET node = NULL")
    done = qupersync("sync", "node_details", "applications")
    assert done.code == 1 and "1 check failed, 1 success" in done.out
    text = "1 of 1 rows skipped (100.00%): node: NULL in a key column. They are in quper.skipped_rows."
    assert f"node_details_sync, no_skipped_rows: {text}" in done.out
    assert "node_details_sync: success, but 1 of 1 rows skipped" in done.err
    again = qupersync("sync", "node_details", "--json")
    assert again.code == 1 and not again.json["ok"]
    (job,) = again.json["jobs"]
    assert job["status"] == "success" and job["check_errors"] == {"no_skipped_rows": text}
    # The run succeeds, because what could be loaded is loaded; a tag says so in the list of runs.
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        run = instance.get_run_by_id(job["run_id"])
    assert run and run.is_success and run.tags["qupersync/check_error.node_details_sync"] == "no_skipped_rows"


def test_few_skipped_rows_are_a_warning(qupersync: Command, source: Query) -> None:
    source(NODES, [30])
    source("UPDATE stv_node_storage_capacity SET node = NULL WHERE node = 0")
    done = qupersync("sync", "node_details", "--json")
    assert done.code == 0 and done.json["jobs"][0]["rows_skipped"] == 1


def test_unavailable_job_is_not_a_failure(
    qupersync: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gateway((sandbox.server.host, sandbox.server.port), mode="serverless") as gateway:
        monkeypatch.setenv("REDSHIFT_PORT", str(gateway.port))
        done, printed = qupersync("sync", "node_details", "--json"), qupersync("sync", "node_details", "applications")
    assert done.code == 0 and done.json["jobs"][0]["status"] == "unavailable"
    assert printed.code == 0 and "Jobs: 1 success, 1 unavailable" in printed.out
    assert printed.out.count("stv_node_storage_capacity") == 1  # the reason


def test_job_that_another_instance_loads_is_skipped(
    qupersync: Command, postgres: PostgresResource, engine: sa.Engine, target: Query
) -> None:
    with closing(JobConnection(engine, "sandbox", "node_details_sync")) as other:
        with other.begin() as connection:
            sync_logs.start(connection, "sandbox", "node_details_sync", "of another instance")
        done = qupersync("sync", "node_details", "--json")
        rows = target("SELECT run_id, status FROM quper.sync_logs ORDER BY id")
    assert done.code == 0 and done.json["jobs"][0]["status"] == "skipped"
    assert rows == [("of another instance", "running"), (done.json["jobs"][0]["run_id"], "skipped")]


def test_full_refresh_reads_everything(qupersync: Command) -> None:
    for flags, reason in (([], "the target table is empty"), (["--full-refresh"], "full refresh requested")):
        done = qupersync("sync", "alert_events", "--json", *flags)
        assert done.json["jobs"][0]["read_reason"].startswith(reason)


def test_run_is_recorded_in_the_configured_instance(qupersync: Command, dagster_home: Path) -> None:
    done = qupersync("sync", "node_details", "--json")
    assert done.code == 0 and done.json["in_dagster"] and "DAGSTER_HOME" not in done.err
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        run = instance.get_run_by_id(done.json["jobs"][0]["run_id"])
        assert run and run.is_success and run.tags["qupersync/trigger"] == "cli"
        assert run.asset_selection == {dg.AssetKey(["quper", "node_details"])}
        assert instance.get_latest_materialization_event(dg.AssetKey(["quper", "node_details"]))


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_unknown_job_is_an_error(qupersync: Command, flags: list[str]) -> None:
    done = qupersync("sync", "node_details", "nodes", *flags)
    assert done.code == 2
    assert "no job nodes" in done.err and all(spec.sync_job_id in done.err for spec in default_specs())
    assert done.json["error"] in done.err.replace("\n\n", "\n") if flags else not done.out


FAULTS = [
    ({"POSTGRES_PORT": "1"}, "Check POSTGRES_HOST and POSTGRES_PORT"),
    ({"POSTGRES_PASSWORD": "wrong"}, "Check POSTGRES_USER and POSTGRES_PASSWORD"),
    ({"SYNC_INTERVAL": "soon"}, "SYNC_INTERVAL='soon'"),
    ({"DAGSTER_HOME": "/nowhere"}, "DAGSTER_HOME='/nowhere'"),
]
VERBS = [["sync"], ["status"], ["purge", "--dry-run"], ["history"]]


@pytest.mark.parametrize(
    ("verb", "variables", "words"),
    # history needs no Dagster instance.
    [(v, *fault) for v in VERBS for fault in FAULTS if v != ["history"] or "DAGSTER_HOME" not in fault[0]],
    ids=str,
)
def test_wrong_settings_and_logins_are_errors(
    qupersync: Command, monkeypatch: pytest.MonkeyPatch, verb: list[str], variables: dict[str, str], words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = qupersync(*verb, "--json")
    assert done.code == 1
    assert words in done.json["error"] and words in done.err
