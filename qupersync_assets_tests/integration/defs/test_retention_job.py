"""Deletion of old rows and old runs, with Dagster's storage in PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from qupersync_assets.defs import build_definitions, retention_job
from qupersync_assets.defs.names import JOB_NAME
from qupersync_assets.defs.retention_job import MAINTENANCE_NAME, purge_runs
from qupersync_assets.postgres import retention
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.settings import Settings
from qupersync_assets.sync_jobs import all_specs, default_specs
from qupersync_assets_tests.support.integration import Query
from qupersync_assets_tests.support.set_ups import partition


def run_maintenance(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = build_definitions(Settings.load()).resolve_job_def(MAINTENANCE_NAME)
    return job.execute_in_process(instance=instance)


def test_history_is_not_deleted_by_default(
    postgres: PostgresResource, target: Query, instance: dg.DagsterInstance
) -> None:
    target("INSERT INTO quper.query_history (cluster, query_id, start_time) VALUES ('sandbox', 1, '2001-01-01')")
    assert run_maintenance(instance).success
    assert target("SELECT count(*) FROM quper.query_history") == [(1,)]


def test_old_history_is_deleted(
    postgres: PostgresResource, target: Query, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUPER_RETENTION_DAYS", "30")
    monkeypatch.setattr(retention, "BATCH_ROWS", 7)
    ages = [1, 29, 31, 400]
    for spec in default_specs():
        if spec.kind == "history":
            keys = [c.name for c in spec.key if c.computed is None and c.name not in ("cluster", "event_md5")]
            names = dict.fromkeys([*keys, spec.time_column, *(["event"] if "event" in spec.table.c else [])])
            values = [
                "now() - make_interval(days => age)" if name == spec.time_column
                else "n::text" if str(spec.table.c[name].type) == "TEXT"
                else "n"
                for name in names
                if name
            ]  # fmt: skip
            target(
                f"INSERT INTO {spec.table.fullname} (cluster, {', '.join(n for n in names if n)}) "
                f"SELECT 'sandbox', {', '.join(values)} FROM unnest(%s) WITH ORDINALITY AS u (age, d), "
                "LATERAL generate_series(1 + 100 * d, 20 + 100 * d) n",
                [ages],
            )
    target("INSERT INTO quper.query_history (cluster, query_id, start_time) VALUES ('other', 1, '2001-01-01')")
    target("INSERT INTO quper.query_history (cluster, query_id, synced_at) VALUES ('sandbox', 1, '2001-01-01')")
    target("INSERT INTO quper.query_history (cluster, query_id) VALUES ('sandbox', 2)")
    assert run_maintenance(instance).success
    for spec in default_specs():
        if spec.kind == "history":
            remaining = (
                f"SELECT count(*), min({spec.time_column}) > now() - interval '30 days' "
                f"FROM {spec.table.fullname} WHERE cluster = 'sandbox' AND {spec.time_column} IS NOT NULL"
            )
            assert target(remaining) == [(40, True)], spec.sync_job_id
    others = target("SELECT cluster, query_id FROM quper.query_history WHERE query_id < 3 ORDER BY 1, 2")
    assert others == [("sandbox", 2)]  # of a cluster that no setting names too


@pytest.mark.parametrize(("days", "kept"), [("30", 2), ("", 4)])
def test_removed_rows_of_every_snapshot_are_deleted_some_time_after_their_removal(
    postgres: PostgresResource,
    target: Query,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    days: str,
    kept: int,
) -> None:
    monkeypatch.setenv("QUPER_RETENTION_DAYS", days)
    ensure_schema(postgres, all_specs())
    snapshots = [spec for spec in all_specs() if spec.kind == "snapshot"]
    for spec in snapshots:
        keys = [c for c in spec.source_key if c.computed is None]
        values = ["n::text" if str(c.type) == "TEXT" else "n" for c in keys]
        target(
            f"INSERT INTO {spec.table.fullname} (cluster, {', '.join(c.name for c in keys)}, synced_at, removed_at) "
            f"SELECT c, {', '.join(values)}, '2001-01-01', now() - make_interval(days => age) "
            "FROM unnest(ARRAY[NULL, 29, 31, 89, 91]) WITH ORDINALITY u (age, n), unnest(ARRAY['sandbox', 'other']) c"
        )
    assert run_maintenance(instance).success
    for spec in snapshots:
        counted = target(f"SELECT cluster, count(*) FROM {spec.table.fullname} GROUP BY 1 ORDER BY 1")
        assert counted == [("other", kept), ("sandbox", kept)], spec.sync_job_id


def test_only_old_rows_of_a_partitioned_table_are_deleted(
    postgres: PostgresResource, target: Query, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUPER_RETENTION_DAYS", "30")
    monkeypatch.setattr(retention, "BATCH_ROWS", 7)
    partition(target, "query_history", "LIST (cluster)", one="IN ('sandbox')", two="IN ('other')")
    for cluster, old in (("sandbox", 20), ("other", 40)):
        target(
            "INSERT INTO quper.query_history (cluster, query_id, start_time) "
            "SELECT %s, n, now() - make_interval(days => CASE WHEN n <= %s THEN 31 ELSE 1 END) "
            "FROM generate_series(1, 100) n",
            [cluster, old],
        )
    same = "SELECT count(*) FROM quper.query_history a JOIN quper.query_history b ON a.ctid = b.ctid "
    assert target(same + "WHERE a.cluster < b.cluster") == [(100,)]
    assert run_maintenance(instance).success
    left = target("SELECT cluster, count(*), min(query_id) FROM quper.query_history GROUP BY 1 ORDER BY 1")
    assert left == [("other", 60, 41), ("sandbox", 80, 21)]


def test_old_bookkeeping_is_deleted_except_each_jobs_last_success(
    postgres: PostgresResource, target: Query, instance: dg.DagsterInstance
) -> None:
    target(
        "INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at) VALUES "
        "('sandbox', 'a', '1', 'success', now() - interval '200 days'), "
        "('sandbox', 'a', '2', 'success', now() - interval '100 days'), "
        "('sandbox', 'a', '3', 'failed', now() - interval '95 days'), "
        "('sandbox', 'a', '4', 'failed', now() - interval '85 days'), "
        "('other', 'a', '5', 'failed', now() - interval '200 days')"
    )
    target(
        "INSERT INTO quper.skipped_rows (cluster, sync_job_id, fingerprint, run_id, reason, row, times_seen, last_seen) "
        "SELECT 'sandbox', 'a', n::text, 'r', '', '{}', 1, now() - make_interval(days => n) "
        "FROM unnest(ARRAY[89, 91]) n"
    )
    assert run_maintenance(instance).success
    assert target("SELECT run_id FROM quper.sync_logs ORDER BY 1") == [("2",), ("4",)]
    assert target("SELECT fingerprint FROM quper.skipped_rows") == [("89",)]


@pytest.fixture
def postgres_instance(environment: dict[str, str], tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with its storage in PostgreSQL, as the product's user."""
    shutil.copy(Path(__file__).parents[3] / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance
        instance.wipe()


def test_old_runs_are_deleted_with_their_events_and_evaluations(
    postgres_instance: dg.DagsterInstance, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_job, "KEPT_RUNS", 2)
    monkeypatch.setattr(retention_job, "BATCH_RUNS", 2)
    monkeypatch.setattr(retention, "BATCH_ROWS", 7)
    job = build_definitions(Settings.load()).resolve_job_def(JOB_NAME)

    @dg.job
    def foreign() -> None:
        pass

    runs = [
        job.execute_in_process(instance=postgres_instance, asset_selection=[dg.AssetKey(["quper", "node_details"])])
        for _ in range(6)
    ]
    other = foreign.execute_in_process(instance=postgres_instance)
    # All but the last four are three weeks old.
    old = [run.run_id for run in runs[:5]]
    target(
        "UPDATE runs SET create_timestamp = create_timestamp - interval '21 days' WHERE run_id = ANY(%s)",
        [[*old, other.run_id]],
    )
    target("UPDATE asset_check_executions SET create_timestamp = create_timestamp - interval '21 days'")
    specs = default_specs()
    files = Path(postgres_instance.storage_directory())  # what the steps wrote to stdout and stderr
    for run in runs:
        (files / run.run_id / "compute_logs").mkdir(parents=True, exist_ok=True)
    counted = purge_runs(postgres_instance, specs, 14)
    assert counted["runs"] == 4
    assert {run.run_id for run in runs if (files / run.run_id).exists()} == {runs[4].run_id, runs[5].run_id}
    remaining = {record.dagster_run.run_id for record in postgres_instance.get_run_records()}
    assert remaining == {runs[4].run_id, runs[5].run_id, other.run_id}
    assert target("SELECT count(*) FROM event_logs WHERE run_id = ANY(%s)", [old[:4]]) == [(0,)]
    assert target("SELECT count(*) FROM event_logs WHERE run_id = %s", [runs[4].run_id])[0][0] > 5
    checks = len(runs[0].get_asset_check_evaluations())
    assert counted["check evaluations"] == 5 * checks and checks > 1
    assert target("SELECT count(*) FROM asset_check_executions") == [(checks,)]
    assert purge_runs(postgres_instance, specs, 14) == {"runs": 0, "check evaluations": 0}


def test_the_job_is_scheduled_daily(environment: dict[str, str]) -> None:
    repository = build_definitions(Settings.load()).get_repository_def()
    (schedule,) = [s for s in repository.schedule_defs if s.job_name == MAINTENANCE_NAME]
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    minute, hour, *day = str(schedule.cron_schedule).split()
    assert minute.isdecimal() and hour.isdecimal() and day == ["*", "*", "*"]
