"""A run without Dagster leaves in the target what a run in Dagster leaves there."""

from __future__ import annotations

from typing import Any

import pytest

from qupersync_assets_tests.support.integration import Command, Query

# Columns that differ from run to run.
VOLATILE = {
    "id",
    "run_id",
    "started_at",
    "completed_at",
    "duration_ms",
    "read_to",
    "newest_row_at",
    "gap_from",
    "gap_to",
}


def rows(answer: Any) -> list[dict[str, Any]]:
    return [{k: v for k, v in job.items() if k not in VOLATILE} for job in answer.json["jobs"]]


@pytest.mark.parametrize("fault", ["none", "bad row", "no column", "no server"])
def test_runs_are_equal(
    qupersync: Command,
    source: Query,
    target: Query,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    fault: str,
) -> None:
    source("INSERT INTO stv_node_storage_capacity SELECT n, 100, 900 FROM generate_series(0, 3) n")
    if fault == "bad row":
        source("UPDATE stv_node_storage_capacity SET node = NULL WHERE node = 1")
    elif fault == "no column":
        source("ALTER TABLE stv_node_storage_capacity RENAME node TO renamed")
    elif fault == "no server":
        monkeypatch.setenv("REDSHIFT_PORT", "1")
    jobs = ("node_details", "applications", "table_stats")
    try:
        direct = qupersync("sync", *jobs, "--json")
        target("DROP SCHEMA quper CASCADE")
        request.getfixturevalue("dagster_home")
        in_dagster = qupersync("sync", *jobs, "--json")
    finally:
        if fault == "no column":
            source("ALTER TABLE stv_node_storage_capacity RENAME renamed TO node")
    assert direct.code == in_dagster.code == (0 if fault == "none" else 1)
    assert in_dagster.json["in_dagster"] and not direct.json["in_dagster"]
    assert rows(direct) == rows(in_dagster)
    node = rows(direct)[1]
    assert node["sync_job_id"] == "node_details_sync"
    found = (node["status"], bool(node["check_errors"]), node["attempts"])
    # The server is tried again.
    expected = {"none": ("success", False, 1), "bad row": ("success", True, 1), "no column": ("failed", False, 1)}
    assert found == expected.get(fault, ("failed", False, 2))
