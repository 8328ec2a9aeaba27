"""QuperSync in a Dagster project of others: twice, beside its executor, resources, assets, jobs and runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest

from qupersync_assets import build_qupersync_defs
from qupersync_assets.core.redaction import redact
from qupersync_assets.defs.names import TARGET_TAG
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.settings import Settings, SettingsError
from qupersync_assets.settings.redshift import with_current_credentials
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.alert_servers import Webhook
from qupersync_assets_tests.support.dagster_instance import instance_in_memory
from qupersync_assets_tests.support.host_project import host_environment, write_host_project
from qupersync_assets_tests.support.integration import Query
from qupersync_assets_tests.unit.conftest import instance, shared_instance

# An instance with a folder, which a sensor needs.
__all__ = ["instance", "shared_instance"]

Status = dg.DagsterRunStatus
HOST_JOBS, EVERY_ASSET = {"nightly"}, "__ASSET_JOB"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the project."""
    folder = tmp_path_factory.mktemp("host")
    write_host_project(folder)
    return folder


@pytest.fixture(scope="module")
def receiver() -> Iterator[Webhook]:
    """The receiver of alerts of the second QuperSync."""
    with Webhook("of-the-receiver") as server:
        yield server


@pytest.fixture(scope="module")
def host(folder: Path, sandbox: Sandbox, receiver: Webhook) -> Iterator[dg.RepositoryDefinition]:
    """The repository of the project, loaded in this process, and the database of its second QuperSync."""
    with closing(psycopg2.connect(sandbox.server.dsn("quper"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor, suppress(psycopg2.errors.DuplicateDatabase):
            cursor.execute("CREATE DATABASE regions OWNER qupersync")
    with pytest.MonkeyPatch.context() as patch:
        mislead(patch)
        for name, value in host_environment(sandbox.environment(), receiver.url).items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(folder))
        from host_project.definitions import defs  # type: ignore[import-not-found]

        loaded: dg.RepositoryDefinition = defs().get_repository_def()
    yield loaded  # the environment is that of the tests again: other fixtures read it
    for name in [name for name in sys.modules if name.partition(".")[0] == "host_project"]:
        del sys.modules[name]


def mislead(patch: pytest.MonkeyPatch) -> None:
    """Set the product's own variables to what would fail."""
    for name in [name for name in os.environ if name.startswith(("REDSHIFT_", "POSTGRES_", "SYNC_", "CLUSTER"))]:
        patch.delenv(name)
    for name in ("REDSHIFT_HOST", "REDSHIFT_PASSWORD", "POSTGRES_HOST", "POSTGRES_PASSWORD", "SYNC_INTERVAL"):
        patch.setenv(name, "not this one")


def start_dg(folder: Path, home: Path, variables: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Run `dg` in the project, with a Dagster instance in the folder `home`."""
    home.mkdir(exist_ok=True)
    shutil.copyfile(folder / "dagster.yaml", home / "dagster.yaml")
    programs = Path(sys.executable).parent
    own = {"PATH": f"{programs}:{os.environ['PATH']}", "DAGSTER_HOME": str(home)}
    command = [str(programs / "dg"), *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env={**os.environ, **variables, **own}, **pipes)


@pytest.fixture
def memory() -> Iterator[dg.DagsterInstance]:
    with instance_in_memory() as kept:
        yield kept


def keys(repository: dg.RepositoryDefinition, job: str) -> set[str]:
    return {key.to_user_string() for key in repository.get_job(job).asset_layer.executable_asset_keys}


def test_dg_checks_and_lists_the_project(
    folder: Path, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mislead(monkeypatch)
    variables = host_environment(sandbox.environment())
    commands = [["check", "defs"], ["list", "defs", "--json"]]
    # Each creates its storage.
    running = [start_dg(folder, tmp_path / command[0], variables, *command) for command in commands]
    checked, listed = (process.communicate() for process in running)
    assert running[0].returncode == 0 and "All definitions loaded successfully." in checked[0], checked
    assert running[1].returncode == 0, listed
    found = json.loads(listed[0])
    assert {"billing/invoices", "quper/node_details", "regions/quper/node_details"} <= {
        a["asset_key"] for a in found["assets"]
    }
    assert {"nightly", "qupersync_main", "regions_main"} <= {job["name"] for job in found["jobs"]}
    for password in (variables["WAREHOUSE_PASSWORD"], variables["HEALTH_PASSWORD"]):
        assert password not in "".join([*checked, *listed])


def test_nothing_of_the_host_changes_and_all_names_carry_a_namespace(host: dg.RepositoryDefinition) -> None:
    assert {job.name for job in host.get_all_jobs()} - HOST_JOBS - {EVERY_ASSET} == {
        f"{name}_{job}"
        for name, jobs in {
            "qupersync": [spec.sync_job_id for spec in default_specs()],
            "regions": ["node_details_sync", "locks_sync"],
        }.items()
        for job in ("main", "health", "maintenance", *jobs)
    }
    resources = set(host.get_top_level_resources())
    assert {"postgres", "redshift"} <= resources and "io_manager" not in resources
    assert {r for r in resources if not r.startswith(("qupersync_", "regions_"))} == {"postgres", "redshift"}
    assert {"regions_redshift_north", "regions_redshift_south", "qupersync_redshift"} <= resources
    host_executor = host.get_job("nightly").executor_def.name
    assert host_executor == host.get_job(EVERY_ASSET).executor_def.name == "executor_of_the_host"
    assert host.get_job("qupersync_main").executor_def.name == "multiprocess"
    assert host.get_job("regions_main").executor_def.name == "in_process"
    others = {"billing/invoices", *(key for key in keys(host, "regions_main") if not key.startswith("regions/"))}
    assert others == {"billing/invoices"} and keys(host, "nightly") == {"billing/invoices"}


def test_schedules_and_alerts_are_off_unless_asked_for(host: dg.RepositoryDefinition) -> None:
    off, on = "qupersync", "regions"
    instigators: list[Any] = [*host.schedule_defs, *host.sensor_defs]
    for instigator in instigators:
        if instigator.name.startswith((off, on)):
            assert (instigator.default_status.value == "RUNNING") is instigator.name.startswith(on), instigator.name
    [alerts] = [sensor.name for sensor in host.sensor_defs if "alerts" in sensor.name]
    assert alerts == "regions_alerts_1_json"
    [schedule] = [schedule for schedule in host.schedule_defs if schedule.name == "regions_main_schedule"]
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("*/2 * * * *", "Europe/Berlin")


def test_attributes_are_those_of_the_yaml(host: dg.RepositoryDefinition) -> None:
    nodes = map(host.asset_graph.get, host.asset_graph.get_all_asset_keys())
    specs = {node.key.to_user_string(): node for node in nodes}
    region = specs["regions/quper/node_details"]
    assert (region.group_name, list(region.owners), region.tags["table"]) == (
        "clusters",
        ["team:regions"],
        "node_details",
    )
    assert region.partitions_def.get_partition_keys() == ["north", "south"]
    assert (
        specs["quper/node_details"].group_name == "quper"
        and specs["regions/redshift/svv_transactions"].group_name == "clusters"
    )
    [parent] = region.parent_keys
    assert parent.to_user_string() == "regions/redshift/stv_node_storage_capacity"


def test_both_load_rows_beside_the_host(
    host: dg.RepositoryDefinition,
    source: Query,
    sandbox: Sandbox,
    target: Query,
    monkeypatch: pytest.MonkeyPatch,
    memory: dg.DagsterInstance,
) -> None:
    mislead(monkeypatch)
    instance = memory
    source("INSERT INTO stv_node_storage_capacity VALUES (0, 1, 9), (1, 2, 9)")
    nightly = host.get_job("nightly").execute_in_process(instance=instance)
    assert nightly.output_for_node("billing__invoices") == "host resources"
    done = host.get_job("qupersync_node_details_sync").execute_in_process(instance=instance)
    assert done.success and done.dagster_run.tags[TARGET_TAG].endswith("/quper")
    assert target("SELECT cluster, node FROM quper.node_details ORDER BY node") == [("default", 0), ("default", 1)]
    regions = host.get_job("regions_main")
    assert regions.execute_in_process(instance=instance, partition_key="south").success
    assert host.get_job("regions_health").execute_in_process(instance=instance, partition_key="south").success
    with closing(psycopg2.connect(sandbox.server.dsn("regions"))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT cluster, count(*) FROM quper.node_details GROUP BY 1")
        assert cursor.fetchall() == [("south", 2)]
    assert "regions.quper.node_details" in report(host, instance)
    observed = instance.fetch_observations(dg.AssetKey(["regions", "redshift", "stv_node_storage_capacity"]), 9).records
    events = [(record.partition_key, record.asset_observation.metadata) for record in observed]
    assert [(cluster, m["rows"].value, m["source"].value) for cluster, m in events] == [
        ("south", 2, "stv_node_storage_capacity")
    ]
    for name in ("qupersync_maintenance", "regions_maintenance"):
        assert host.get_job(name).execute_in_process(instance=instance).success
    assert {run.job_name for run in instance.get_runs()} >= {"nightly", "qupersync_node_details_sync"}


@pytest.mark.long
def test_runs_in_processes_use_the_executors_of_their_jobs(
    host: dg.RepositoryDefinition,
    folder: Path,
    source: Query,
    sandbox: Sandbox,
    target: Query,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mislead(monkeypatch)
    source("INSERT INTO stv_node_storage_capacity VALUES (0, 1, 9)")
    with (
        closing(psycopg2.connect(sandbox.server.dsn("regions"))) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("DROP SCHEMA IF EXISTS quper CASCADE")
    variables = host_environment(sandbox.environment())
    jobs = {"nightly": [], "qupersync_node_details_sync": [], "regions_main": ["--partition", "north"]}
    running = {
        job: start_dg(folder, tmp_path / job, variables, "launch", "--job", job, *more) for job, more in jobs.items()
    }
    for job, process in running.items():
        _, written = process.communicate(timeout=240)
        assert process.returncode == 0, written
        assert ("multiprocess" in written.lower()) is (job == "qupersync_node_details_sync"), written
    assert target("SELECT cluster, node FROM quper.node_details") == [("default", 0)]
    with closing(psycopg2.connect(sandbox.server.dsn("regions"))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT cluster, sync_job_id, status FROM quper.sync_logs ORDER BY sync_job_id")
        assert cursor.fetchall() == [("north", job, "success") for job in ("locks_sync", "node_details_sync")]


def report(host: dg.RepositoryDefinition, instance: dg.DagsterInstance) -> str:
    """Load a table of the second QuperSync into an asset of the host; return the names of its rows."""
    key = dg.AssetKey(["regions", "quper", "node_details"])
    rows: list[str] = []

    @dg.asset(ins={"nodes": dg.AssetIn(key=key, input_manager_key="regions_postgres_io_manager")})
    def nodes(nodes: Any) -> None:
        rows.extend(f"{'.'.join(key.path)} {cluster}" for cluster in nodes["cluster"])

    resources = {name: r for name, r in host.get_top_level_resources().items() if name.startswith("regions_postgres")}
    assert dg.materialize([dg.AssetSpec(key), nodes], instance=instance, resources=resources).success
    return rows[0]


def test_only_dead_runs_of_ones_own_are_closed(
    host: dg.RepositoryDefinition, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "max_silence", -1.0)  # each run without a lock is dead

    def create(job: str, target: str | None = None, **more: Any) -> str:
        tags = {TARGET_TAG: target} if target else {}
        definition = host.get_job(job)
        return instance.create_run_for_job(definition, status=Status.STARTED, tags=tags, **more).run_id

    own, regions = (host.get_job(name).tags[TARGET_TAG] for name in ("qupersync_main", "regions_main"))
    dead = create("qupersync_main", own)
    selected = frozenset({dg.AssetKey(["quper", "node_details"])})
    alive = {
        "a job of the host": create("nightly"),
        "assets that a user of the host selected": create(EVERY_ASSET, asset_selection=selected),
        "the other QuperSync": create("regions_main", regions),
        "a QuperSync of another code location": create("qupersync_main", "elsewhere:5432/quper"),
        "a job of the same name": create("qupersync_main"),
    }
    sensor = host.get_sensor_def("qupersync_close_stale_rows")
    [key] = sensor.required_resource_keys
    with dg.build_sensor_context(
        instance, repository_def=host, resources={key: host.get_top_level_resources()[key]}
    ) as c:
        sensor.evaluate_tick(c)
    status = {run.run_id: run.status for run in instance.get_runs()}
    assert status.pop(dead) == Status.FAILURE
    assert {name: status[run_id] for name, run_id in alive.items()} == dict.fromkeys(alive, Status.STARTED)


def test_alerts_are_about_its_own_runs(
    host: dg.RepositoryDefinition, instance: dg.DagsterInstance, receiver: Webhook
) -> None:
    cursor: str | None = None

    def poll() -> None:
        nonlocal cursor
        with dg.build_sensor_context(instance, cursor, repository_def=host) as context:
            cursor = host.get_sensor_def("regions_alerts_1_json").evaluate_tick(context).cursor

    poll()
    for job in ("nightly", "qupersync_main", "regions_main"):
        run = instance.create_run_for_job(host.get_job(job), status=Status.STARTED, tags=host.get_job(job).tags)
        instance.report_run_failed(run, f"{job} has ended badly")
    poll()
    [message] = receiver.messages
    assert "regions_main has ended badly" in message


def settings() -> Settings:
    login = {"host": "h", "database": "d", "user": "u", "password": "of-the-source-9"}
    target = {"postgres_host": "p", "postgres_database": "d", "postgres_user": "u", "postgres_password": "of-target-9"}
    return Settings.build({"default": login}, **target, sync_interval=60)


def test_settings_are_passed_as_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    mislead(monkeypatch)
    built = settings()
    login = with_current_credentials(built.by_cluster()["default"])
    assert built.sync_interval == 60 and login == built.by_cluster()["default"]
    assert PostgresResource(built).settings.libpq()["password"] == "of-target-9"
    assert redact("of-the-source-9 of-target-9") == "*** ***"


def test_all_wrong_settings_are_named_together() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.build({"a": {"host": "h"}, "b": {"hosts": "h"}}, postgres_host="p", sync_intervall=5)
    text = str(raised.value)
    for line in ("user of cluster a is not set.", "hosts of cluster b: there is no such", "postgres_user is not set."):
        assert line in text
    assert "sync_intervall: there is no such setting." in text


def test_a_translation_may_not_change_a_key() -> None:
    with pytest.raises(ValueError, match="set key_prefix instead"):
        build_qupersync_defs(settings(), translation=lambda spec: spec.replace_attributes(key="other"))
