"""Metadata of a materialization: the same keys in each run, also without rows."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.integration import Materialize, Query, checks

LAG = "lag of the newest data in seconds"


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_metadata_has_counts_time_table_and_statement(materialize: Materialize, source: Query) -> None:
    empty = metadata(materialize("node_details"))
    source("INSERT INTO stv_node_storage_capacity VALUES (0, 1, 9), (1, 2, 9), (1, 3, 9), (NULL, 4, 9)")
    first = metadata(materialize("node_details"))
    source("UPDATE stv_node_storage_capacity SET used = 5 WHERE node = 0")
    second = metadata(materialize("node_details"))
    assert empty.keys() - {"statement", "dagster/column_lineage"} == first.keys() == second.keys()
    assert {name: type(empty[name]) for name in second} == {n: type(v) for n, v in second.items()}
    numbers = ("extracted", "upserted", "inserted", "updated", "unchanged", "duplicate", "skipped")
    counted = [[found["counts"][f"rows_{n}"] for n in numbers] for found in (empty, first, second)]  # type: ignore[index]
    assert counted == [[0, 0, 0, 0, 0, 0, 0], [4, 2, 2, 0, 0, 1, 1], [4, 2, 0, 1, 1, 1, 1]]
    plots = {name: value for name, value in second.items() if isinstance(value, (int, float)) and name != "read_to"}
    assert list(plots.values())[1:4] == [4, 1, 1] and len(plots) == 6, plots
    assert second["dagster/row_count"] == 2 and second["dagster/table_name"] == "quper.node_details"
    assert plots["duration of the load in seconds"] > 0
    # In place of the checks themselves, which the UI shows as not evaluated while the next run is running.
    assert empty["checks"] == "3 of 3 passed"
    assert str(second["checks"]).startswith("2 of 3 passed. no_skipped_rows, error: 1 of 4 rows skipped")
    assert str(empty["statement"]).startswith("```sql\nSELECT")
    lineage = empty["dagster/column_lineage"].deps_by_column  # type: ignore[attr-defined]
    assert {dep.column_name for dep in lineage["used_mb"]} == {"used"}
    assert 0 <= plots[LAG] < 60


def test_statement_and_lineage_are_stored_when_they_change(materialize: Materialize, source: Query) -> None:
    source(
        "INSERT INTO sys_query_history (user_id, query_id, status, start_time, query_text) "
        "SELECT 100, n, 'success', getdate() - n * interval '1 minute', 'select 1' FROM generate_series(1, 9) n"
    )
    full, incremental, again = (metadata(materialize("query_history")) for _ in range(3))
    assert [found["read_mode"] for found in (full, incremental, again)] == ["full", "incremental", "incremental"]
    assert full["statement"] != incremental["statement"] and "statement" not in again
    assert again["definition"] == incremental["definition"] != full["definition"]
    source("ALTER TABLE sys_query_history RENAME compile_time TO renamed")
    try:
        changed = metadata(materialize("query_history"))
    finally:
        source("ALTER TABLE sys_query_history RENAME renamed TO compile_time")
    assert changed["definition"] != again["definition"] and "statement" in changed


def test_the_lag_is_that_of_the_newest_row(materialize: Materialize, source: Query, target: Query) -> None:
    nothing = metadata(materialize("vacuum_history"))
    assert nothing[LAG] == 0
    source(
        "INSERT INTO stl_vacuum (xid, table_id, status, eventtime) "
        "VALUES (1, 1, 'Started', now() - interval '2 hours'), (1, 1, 'Finished', now() - interval '90 minutes')"
    )
    for result in (metadata(materialize("vacuum_history")), metadata(materialize("vacuum_history"))):
        assert timedelta(minutes=90) <= timedelta(seconds=result[LAG]) < timedelta(minutes=92)  # type: ignore[arg-type]


def test_the_lag_of_a_snapshot_grows_while_it_cannot_be_read(
    materialize: Materialize, source: Query, target: Query
) -> None:
    materialize("node_details")
    target("UPDATE quper.sync_logs SET read_to = read_to - interval '1 hour'")
    source("ALTER TABLE stv_node_storage_capacity RENAME TO renamed")
    try:
        result = metadata(materialize("node_details"))
    finally:
        source("ALTER TABLE renamed RENAME TO stv_node_storage_capacity")
    assert result["source"] == "unavailable"
    assert 3600 <= result[LAG] < 3720  # type: ignore[operator]


def test_a_check_shows_the_last_ten_runs(materialize: Materialize, source: Query, target: Query) -> None:
    source("INSERT INTO stv_node_storage_capacity VALUES (0, 1, 9)")
    materialize("node_details")
    target(
        "INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at, rows_extracted) "
        "SELECT cluster, sync_job_id, 'earlier' || n, 'failed', now(), n FROM quper.sync_logs, generate_series(1, 12) n"
    )
    result = materialize("node_details")
    table = checks(result, "no_skipped_rows")["node_details"].metadata["last_runs"].value
    logs = target("SELECT run_id, status, rows_extracted FROM quper.sync_logs ORDER BY id DESC LIMIT 10")
    shown = [(r.data["run"], r.data["status"], r.data["extracted"]) for r in table.records]
    assert shown == [(run_id[:8], status, read) for run_id, status, read in logs]
    assert shown[0] == (result.run_id[:8], "success", 1) and len(shown) == 10


def test_each_view_that_was_read_is_observed_with_its_rows(
    materialize: Materialize, source: Query, instance: dg.DagsterInstance
) -> None:
    source("INSERT INTO sys_vacuum_history (table_id, transaction_id, start_time) VALUES (1, 1, getdate())")
    for _ in range(2):
        materialize("vacuum_history")
    spec = next(spec for spec in all_specs() if spec.table.name == "vacuum_history")
    [read, *others] = spec.variants
    for view in read.sources:
        records = instance.fetch_observations(dg.AssetKey(["redshift", view]), 9).records
        found = [record.asset_observation for record in records]
        assert [observation and observation.metadata["source"].value for observation in found] == 2 * [read.name]
        # The UI would show it as never materialized.
        assert len(instance.fetch_materializations(dg.AssetKey(["redshift", view]), 9).records) == 1
    unread = {view for variant in others for view in variant.sources} - set(read.sources)
    assert not any(instance.fetch_observations(dg.AssetKey(["redshift", view]), 9).records for view in unread)
