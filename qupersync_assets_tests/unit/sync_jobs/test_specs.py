"""Rules for each sync job, also for jobs that are added later."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa

from qupersync_assets.spec import SyncSpec
from qupersync_assets.spec.redshift_views import column_types
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets.sync_jobs.vacuum_history import OUTCOME, VACUUM_TYPE
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
    "query_metrics_sync": "query_metrics",
}
# Documented columns of main sources that are not read, and why.
UNREAD = {
    ("svv_table_info", "empty"): "for internal use, deprecated by AWS",
    ("stv_wlm_service_class_config", "queueing_strategy"): "reserved for system use",
    ("stv_wlm_service_class_config", "evictable"): "reserved for system use",
    ("stv_wlm_service_class_config", "eviction_threshold"): "reserved for system use",
    ("stv_wlm_service_class_config", "min_step_mem"): "reserved for system use",
}
# Sources whose rows are aggregated.
AGGREGATED = {"stl_scan", "stv_slices", "svl_user_activity", "sys_query_detail"}
# Jobs of the product, without one that a user adds.
DEFINED = [spec for spec in all_specs() if spec.table.name in {*JOBS.values()} or spec.optional]
SPECS = pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.sync_job_id)


def test_the_default_jobs_exist() -> None:
    assert JOBS.items() <= {spec.sync_job_id: spec.table.name for spec in all_specs()}.items()


@SPECS
def test_the_key_starts_with_the_cluster_and_has_no_nulls(spec: SyncSpec) -> None:
    names = [c.name for c in spec.key]
    assert names[0] == "cluster" and len(names) > 1
    assert not any(c.nullable for c in spec.key)
    assert all(c.nullable for c in spec.columns if c.name not in names), "a NULL would skip the row"


@SPECS
def test_a_row_has_the_time_of_its_last_write(spec: SyncSpec) -> None:
    synced_at = spec.table.c.synced_at
    assert documented.holds(synced_at.type, "timestamp") and not synced_at.nullable


@SPECS
def test_table_and_columns_are_described(spec: SyncSpec) -> None:
    assert spec.description and spec.table.comment
    assert [c.name for c in spec.table.c if not c.comment] == []


@SPECS
def test_sensitive_columns_are_nullable_texts(spec: SyncSpec) -> None:
    sensitive = [c for c in spec.columns if c.info["sensitive"]]
    assert all(c.nullable and isinstance(c.type, sa.Text) for c in sensitive)
    key_bases = {base for c in spec.key for base in c.info.get("generated_from", ())}
    assert not key_bases & {c.name for c in sensitive}


def test_the_list_of_sensitive_columns() -> None:
    sensitive = {
        (spec.table.name, c.name): c.info["sensitive"]
        for spec in all_specs()
        for c in spec.columns
        if c.info["sensitive"]
    }
    expected = {
        ("query_history", "query_text"): "sql",
        ("query_history", "error_message"): "message",
        ("column_stats", "column_default"): "sql",
        ("table_recommendations", "ddl"): "sql",
        ("load_history", "data_source"): "data",
        ("load_errors", "file_name"): "data",
        ("load_errors", "error_message"): "message",
        ("load_errors", "raw_line"): "data",
        ("load_errors", "raw_field_value"): "data",
    }
    assert expected.items() <= sensitive.items()


def test_histories_whose_rows_are_logged_late_are_read_from_the_start_of_long_queries() -> None:
    # Rows of these have the time of their log, or are read again until they have ended.
    in_time = {"vacuum_history", "auto_table_optimizations", "query_history", "load_history", "serverless_usage"}
    late = {spec.table.name for spec in DEFINED if spec.late_arriving}
    assert late == {spec.table.name for spec in DEFINED if spec.kind == "history"} - in_time


def test_only_snapshots_of_rows_that_come_and_go_may_be_empty() -> None:
    assert {spec.table.name for spec in DEFINED if spec.transient} == {"locks", "table_recommendations", "wlm_rules"}


@SPECS
def test_each_column_has_a_source(spec: SyncSpec) -> None:
    traced = {target for target, _, _ in spec.lineage()}
    assert traced == set(spec.table.c.keys()) - {"cluster", "synced_at", "removed_at"}


@pytest.mark.parametrize(
    "spec", [s for s in all_specs() if s.sources[0] not in AGGREGATED], ids=lambda spec: spec.sync_job_id
)
def test_each_documented_column_of_the_main_source_is_read(spec: SyncSpec) -> None:
    main = spec.sources[0]
    read = {name for _, view, name in spec.lineage() if view == main}
    unread = {column for view, column in UNREAD if view == main}
    assert set(column_types(main)) - read == unread


@pytest.mark.parametrize("prefix", ["", "[VacuumBG] "])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("Started", "FULL"),
        ("Started Delete Only", "DELETE ONLY"),
        ("Started Delete Only (Sorted >= 95%)", "DELETE ONLY"),
        ("Started Sort Only", "SORT ONLY"),
        ("Started Ranged Partition", "RANGED PARTITION"),
        ("Started Reindex", "REINDEX"),
        ("Started Recluster", "RECLUSTER"),
        ("Finished", None),
        ("Failed", None),
        ("Skipped (sort only, sorted>=95%)", None),
    ],
)
def test_a_status_of_a_vacuum_that_its_column_cuts_is_understood(prefix: str, status: str, kind: str | None) -> None:
    def matched(case: str) -> str | None:
        patterns = re.findall(r"ILIKE '%(.+?)%' THEN (?:'(.+?)'|NULL)", case)
        return next((result or None for pattern, result in patterns if pattern in text), None)

    text = (prefix + status)[:30].lower()
    assert matched(OUTCOME) == status.split()[0].lower()
    if status.startswith("Started"):
        assert matched(VACUUM_TYPE) == kind
