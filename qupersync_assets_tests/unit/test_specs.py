"""What holds for every sync job, so that these tests guard the next one too."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa

from qupersync_assets.spec import SyncSpec
from qupersync_assets.syncs import all_specs

from . import documented

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
# Columns whose expression makes another type of the source's, and which.
CONVERTED = {
    ("column_stats", "encoding"): "text",  # format_encoding
    ("table_scan_stats", "range_restricted_scans"): "bigint",  # flags, counted
}
UNITS = {"us": "microseconds", "ms": "milliseconds", "s": "seconds"}

SPECS = pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.sync_job_id)


def read_columns(spec: SyncSpec) -> list[tuple[sa.Column[Any], str]]:
    """Each column that the statement delivers, with the documented type of what it reads."""
    types = {(target, documented.columns(view)[name]) for target, view, name in spec.lineage()}
    return [(c, type_) for c in spec.columns for target, type_ in sorted(types) if target == c.name]


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
def test_what_a_column_reads_is_documented(spec: SyncSpec) -> None:
    unknown = [(t, v, name) for t, v, name in spec.lineage() if name not in documented.columns(v)]
    assert unknown == []


@SPECS
def test_every_column_reads_something(spec: SyncSpec) -> None:
    traced = {target for target, _, _ in spec.lineage()}
    assert traced == set(spec.table.c.keys()) - {"cluster", "synced_at"}


@pytest.mark.parametrize(
    "spec", [s for s in all_specs() if s.sources[0] not in ADDED_UP], ids=lambda spec: spec.sync_job_id
)
def test_every_documented_column_of_the_main_source_is_read(spec: SyncSpec) -> None:
    main = spec.sources[0]
    read = {name for _, view, name in spec.lineage() if view == main}
    left_out = {column for view, column in UNREAD if view == main}
    assert set(documented.columns(main)) - read == left_out


@SPECS
def test_a_column_holds_what_it_reads(spec: SyncSpec) -> None:
    for column, read in read_columns(spec):
        delivered = documented.computed_type(column.info["sql"], read)
        type_ = CONVERTED.get((spec.table.name, column.name), delivered)
        assert documented.holds(column.type, type_), f"{column.name} {column.type!r} cannot hold {type_}"


@SPECS
def test_a_duration_has_its_unit_in_its_name(spec: SyncSpec) -> None:
    for column, read in read_columns(spec):
        sources = [name for target, _, name in spec.lineage() if target == column.name]
        is_duration = any(re.search(r"(^|_)(time|duration)$", name) for name in sources)
        if is_duration and documented.is_whole(read):
            unit = column.name.rpartition("_")[2]
            assert unit in UNITS and UNITS[unit] in str(column.comment), column.name


@SPECS
def test_a_history_is_read_in_the_order_of_time(spec: SyncSpec) -> None:
    assert (spec.kind == "history") == bool(re.search(r"^ORDER BY ", spec.tail, re.MULTILINE))


@SPECS
def test_the_column_that_tells_newer_from_older_is_delivered(spec: SyncSpec) -> None:
    assert spec.newer_by is None or spec.newer_by in [c.name for c in spec.columns]
