"""The asset of findings: its lineage, checks and samples, and the sensor that starts it after a sync."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import HEALTH_KEY, HEALTH_NAME, JOB_NAME
from qupersync_assets.health import all_signals, groups
from qupersync_assets.health.evaluation import evaluate
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.settings import Settings, SettingsError
from qupersync_assets.sync.health_options import options_by_cluster
from qupersync_assets_tests.support.integration import Materialize, Query

AGO = "UPDATE quper.sync_logs SET started_at = started_at - interval '70 s', completed_at = completed_at - interval '70 s'"


def tick(instance: dg.DagsterInstance) -> tuple[list[dg.RunRequest], str]:
    """Return the runs that the sensor requests, and why it requests none."""
    settings = Settings.load()
    definitions = build_definitions(settings)
    context = dg.build_sensor_context(
        instance, repository_def=definitions.get_repository_def(), resources={"postgres": PostgresResource(settings)}
    )
    with context:
        answer = definitions.get_sensor_def(f"{HEALTH_NAME}_sensor").evaluate_tick(context)
    return list(answer.run_requests or ()), answer.skip_message or ""


def run(instance: dg.DagsterInstance, cluster: str | None = None) -> dg.ExecuteInProcessResult:
    job = build_definitions(Settings.load()).resolve_job_def(HEALTH_NAME)
    return job.execute_in_process(instance=instance, partition_key=cluster)


def test_lineage_goes_from_the_views_to_the_findings_and_syncs_do_not_wait(environment: dict[str, str]) -> None:
    repository = build_definitions(Settings.load()).get_repository_def()
    node = repository.asset_graph.get(HEALTH_KEY)
    read = {job for signal in all_signals().values() for job in signal.jobs}
    assert {key.path[-1] for key in node.parent_keys} >= {"table_stats", "query_history", "node_details"}
    assert len(node.parent_keys) < len(read)  # optional jobs are off
    assert {key.name for key in node.check_keys} == groups().keys()
    assert node.freshness_policy is not None
    assert HEALTH_KEY not in repository.get_job(JOB_NAME).asset_layer.executable_asset_keys


def test_a_run_evaluates_and_its_checks_have_samples(
    filled: Sandbox, materialize: Materialize, instance: dg.DagsterInstance, target: Query
) -> None:
    assert materialize().success
    target(
        "UPDATE quper.table_stats SET stats_off_pct = 99; UPDATE quper.node_details SET used_mb = 0.95 * capacity_mb"
    )
    result = run(instance)
    assert result.success
    checks = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert checks.keys() == groups().keys()
    assert not checks["tables"].passed and checks["tables"].severity is dg.AssetCheckSeverity.WARN
    assert not checks["nodes"].passed and checks["nodes"].severity is dg.AssetCheckSeverity.ERROR
    assert checks["external_queries"].passed
    samples = checks["tables"].metadata["samples"]
    assert isinstance(samples, dg.TableMetadataValue) and 0 < len(samples.records) <= 10
    assert {str(row.data["remedy"])[:8] for row in samples.records} >= {"ANALYZE "}
    [event] = result.asset_materializations_for_node("quper__health_findings")
    [(opened,)] = target("SELECT count(*) FROM quper.health_open")
    numbers: dict[str, Any] = {name: value.value for name, value in event.metadata.items()}
    assert numbers["critical"] + numbers["warning"] + numbers["info"] == opened == numbers["new"] > 10


def test_the_sensor_waits_for_the_first_sync(environment: dict[str, str], instance: dg.DagsterInstance) -> None:
    assert tick(instance) == ([], "No job has ended since the last evaluation.")


def test_the_sensor_starts_one_run_after_a_sync_and_none_when_nothing_was_written(
    filled: Sandbox, materialize: Materialize, instance: dg.DagsterInstance, target: Query
) -> None:
    assert materialize().success
    assert tick(instance) == ([], "A sync runs, or has just ended.")
    target(AGO)
    [request], _ = tick(instance)
    [again], _ = tick(instance)
    assert request.run_key == again.run_key  # Dagster starts it once
    assert run(instance).success
    assert tick(instance) == ([], "No job has ended since the last evaluation.")
    target(
        "UPDATE quper.health_evaluations SET evaluated_at = (SELECT max(completed_at) - interval '1 s' FROM quper.sync_logs)"
    )
    target("UPDATE quper.sync_logs SET rows_inserted = 0, rows_updated = 0, rows_removed = 0")
    requests, reason = tick(instance)
    assert not requests and reason.startswith("No row was written since the last evaluation")


def test_the_sensor_shows_an_evaluation_of_a_command(
    filled: Sandbox, materialize: Materialize, bare: PostgresResource, instance: dg.DagsterInstance, target: Query
) -> None:
    assert materialize().success
    target(AGO)
    [(cluster, options)] = options_by_cluster(Settings.load()).items()
    assert evaluate(bare, cluster, options).opened
    assert len(tick(instance)[0]) == 1  # else the asset is never materialized, until the next sync
    assert run(instance).success
    assert tick(instance) == ([], "No job has ended since the last evaluation.")


@pytest.mark.parametrize("status", ["failed", "running"])
def test_a_job_that_fails_or_hangs_does_not_delay_the_findings_of_others(
    filled: Sandbox, materialize: Materialize, instance: dg.DagsterInstance, target: Query, status: str
) -> None:
    assert materialize().success
    target(AGO)
    end = "NULL" if status == "running" else "completed_at"
    target(
        f"UPDATE quper.sync_logs SET status = '{status}', completed_at = {end} WHERE sync_job_id = 'table_stats_sync';"
        "UPDATE quper.node_details SET used_mb = 0.95 * capacity_mb"
    )
    assert len(tick(instance)[0]) == 1
    assert run(instance).success
    found = {name for (name,) in target("SELECT DISTINCT group_id FROM quper.health_open")}
    assert "nodes" in found and "tables" not in found


def test_each_cluster_is_a_partition(
    filled: Sandbox, materialize: Materialize, two_clusters: None, instance: dg.DagsterInstance, target: Query
) -> None:
    settings = Settings.load()
    job = build_definitions(settings).resolve_job_def(JOB_NAME)
    for cluster in ("north", "south"):
        assert job.execute_in_process(instance=instance, partition_key=cluster).success
    target(AGO)
    requests, _ = tick(instance)
    assert [request.partition_key for request in requests] == ["north", "south"]
    assert run(instance, "south").success
    assert {name for (name,) in target("SELECT DISTINCT cluster FROM quper.health_signals")} == {"south"}
    # A job that hangs in one cluster does not delay the findings of the other.
    target(
        "UPDATE quper.sync_logs SET completed_at = completed_at + interval '45 s'; "
        "UPDATE quper.sync_logs SET status = 'running', completed_at = NULL "
        "WHERE cluster = 'south' AND sync_job_id = 'node_details_sync'"
    )
    [request], _ = tick(instance)
    assert request.partition_key == "north"


def test_it_can_be_switched_off(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTH_FINDINGS", "false")
    repository = build_definitions(Settings.load()).get_repository_def()
    assert not repository.asset_graph.has(HEALTH_KEY) and not repository.has_job(HEALTH_NAME)
    assert not repository.has_sensor_def(f"{HEALTH_NAME}_sensor")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("large_table_with_skw=5", "there is no signal 'large_table_with_skw'; did you mean large_table_with_skew?"),
        ("interleaved_sort_key=5", "interleaved_sort_key has no threshold; allowed is interleaved_sort_key=off"),
        ("queueing=much", "allowed is SIGNAL=NUMBER or SIGNAL=off, unlike in 'queueing=much'"),
        ("queueing", "allowed is SIGNAL=NUMBER or SIGNAL=off, unlike in 'queueing'"),
        ("queueing=1,queueing=2", "'queueing' is named twice"),
    ],
)
def test_wrong_thresholds_are_refused(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("HEALTH_THRESHOLDS", value)
    with pytest.raises(SettingsError, match="HEALTH_THRESHOLDS") as refused:
        build_definitions(Settings.load())
    assert expected in str(refused.value)


def test_thresholds_reach_the_evaluation(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance, target: Query
) -> None:
    monkeypatch.setenv("HEALTH_THRESHOLDS", "queueing = 7.5, small_files=off")
    assert run(instance).success
    rows: list[tuple[Any, ...]] = target(
        "SELECT signal_id, threshold::float, status FROM quper.health_signals "
        "WHERE signal_id IN ('queueing', 'small_files') ORDER BY signal_id"
    )
    assert rows == [("queueing", 7.5, "stale"), ("small_files", None, "off")]
