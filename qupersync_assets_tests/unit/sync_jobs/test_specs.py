"""What holds for every sync job, so that these tests guard the next one too."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from qupersync_assets.spec import SyncSpec
from qupersync_assets.spec.redshift_views import column_types
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support import documented_statements as documented

JOBS = {
    "table_stats_sync": "table_stats",
    "vacuum_history_sync": "vacuum_history",
    "query_history_sync": "query_history",
    "alert_events_sync": "alert_events",
    "node_details_sync": "node_details",
    "column_stats_sync": "column_stats",
    "scan_stats_sync": "table_scan_stats",
    "application_sync": "applications",
}
# Documented columns of main sources that are left out, and why.
UNREAD = {("svv_table_info", "empty"): "for internal use, deprecated by AWS"}
# Sources that are added up: their single rows are not kept.
ADDED_UP = {"stl_scan", "svl_user_activity"}
SPECS = pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.sync_job_id)


def test_the_eight_jobs_are_there() -> None:
    assert JOBS.items() <= {spec.sync_job_id: spec.table.name for spec in all_specs()}.items()


@SPECS
def test_the_cluster_is_first_in_a_key_without_nulls(spec: SyncSpec) -> None:
    names = [c.name for c in spec.key]
    assert names[0] == "cluster" and len(names) > 1
    assert not any(c.nullable for c in spec.key)
    assert all(c.nullable for c in spec.columns if c.name not in names), "a NULL would cost the row"


@SPECS
def test_a_row_tells_when_it_was_written(spec: SyncSpec) -> None:
    synced_at = spec.table.c.synced_at
    assert documented.holds(synced_at.type, "timestamp") and not synced_at.nullable


@SPECS
def test_table_and_columns_are_described(spec: SyncSpec) -> None:
    assert spec.description and spec.table.comment
    assert [c.name for c in spec.table.c if not c.comment] == []


@SPECS
def test_what_may_quote_data_can_be_null(spec: SyncSpec) -> None:
    sensitive = [c for c in spec.columns if c.info["sensitive"]]
    assert all(c.nullable and isinstance(c.type, sa.Text) for c in sensitive)
    computed_from = {base for c in spec.key for base in c.info.get("generated_from", ())}
    assert not computed_from & {c.name for c in sensitive}


def test_what_may_quote_data_is_known() -> None:
    sensitive = {
        (spec.table.name, c.name): c.info["sensitive"]
        for spec in all_specs()
        for c in spec.columns
        if c.info["sensitive"]
    }
    assert sensitive == {
        ("query_history", "query_text"): "sql",
        ("query_history", "error_message"): "message",
        ("column_stats", "column_default"): "sql",
    }


@SPECS
def test_every_column_reads_something(spec: SyncSpec) -> None:
    traced = {target for target, _, _ in spec.lineage()}
    assert traced == set(spec.table.c.keys()) - {"cluster", "synced_at", "removed_at"}


@pytest.mark.parametrize(
    "spec", [s for s in all_specs() if s.sources[0] not in ADDED_UP], ids=lambda spec: spec.sync_job_id
)
def test_every_documented_column_of_the_main_source_is_read(spec: SyncSpec) -> None:
    main = spec.sources[0]
    read = {name for _, view, name in spec.lineage() if view == main}
    left_out = {column for view, column in UNREAD if view == main}
    assert set(column_types(main)) - read == left_out
