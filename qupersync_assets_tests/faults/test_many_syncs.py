"""Many syncs of unchanged data in one process use a constant amount of resources."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import JOB_NAME
from qupersync_assets.settings import Settings
from qupersync_assets_tests.faults.conftest import NODES
from qupersync_assets_tests.support.integration import Query

WARM_UP = 10


@pytest.mark.parametrize("syncs", [30, pytest.param(500, marks=pytest.mark.long)])
def test_many_syncs_use_constant_resources(
    syncs: int, environment: dict[str, str], instance: dg.DagsterInstance, source: Query, target: Query
) -> None:
    source(NODES, [1, 1200])
    target("DROP SCHEMA quper CASCADE")  # the table has statistics of earlier tests
    definitions = build_definitions(Settings.load())
    keys = {dg.AssetKey(["quper", "node_details"])}
    job = definitions.resolve_job_def(JOB_NAME).get_subset(asset_selection=keys)
    process = psutil.Process()

    def sync() -> None:
        result = job.execute_in_process(instance=instance)
        assert result.success
        instance.delete_run(result.run_id)  # it is in memory, with all its events

    def sizes() -> dict[str, Any]:
        gc.collect()
        activity = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'qupersync' "
            "OR usename IN ('qupersync', 'qupersync_reader')"
        )
        return {
            "connections": target(activity)[0][0],
            "files": len(list(Path("/proc/self/fd").iterdir())),
            "threads": process.num_threads(),
            "memory": process.memory_info().rss,
        }

    for _ in range(WARM_UP):
        sync()
    before = sizes()
    for _ in range(syncs - WARM_UP):
        sync()
    after = sizes()
    for name in ("connections", "files", "threads"):
        assert after[name] <= before[name], name
    assert after["memory"] < 1.1 * before["memory"]
    target("SELECT pg_stat_force_next_flush()")
    assert target(
        "SELECT n_dead_tup, n_tup_ins, n_tup_upd FROM pg_stat_user_tables WHERE relname = 'node_details'"
    ) == [(0, 1200, 0)]
    assert target(
        "SELECT count(*), sum(rows_unchanged), sum(rows_inserted), bool_and(status = 'success') FROM quper.sync_logs"
    ) == [(syncs, 1200 * (syncs - 1), 1200, True)]
