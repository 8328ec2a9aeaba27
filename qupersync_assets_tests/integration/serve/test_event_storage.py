"""Dagster's storage gets few bytes from a sync without new rows, and gives all that users read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._serdes import serialize_value

from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import JOB_NAME
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.settings import Settings
from qupersync_assets.sync.checks import check_descriptions
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.integration import Query

TABLES = ("event_logs", "asset_check_executions", "asset_event_tags", "runs", "run_tags")
MAX_BYTES = 80_000
Kind = dg.DagsterEventType


@pytest.fixture
def stored(dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        yield instance


def test_an_idle_tick_has_few_bytes_and_all_facts(filled: Sandbox, stored: dg.DagsterInstance, target: Query) -> None:
    job = build_definitions(Settings.load()).resolve_job_def(JOB_NAME)
    specs = default_specs()
    job.execute_in_process(instance=stored)
    before = _bytes(target)
    run_id = job.execute_in_process(instance=stored).run_id
    assert 20_000 < _bytes(target) - before < MAX_BYTES

    events = stored.all_logs(run_id)
    kinds = Counter(entry.dagster_event_type for entry in events)
    checks = [(spec, name) for spec in specs for name in check_descriptions(spec, 0)]
    for kind in (Kind.STEP_START, Kind.STEP_OUTPUT, Kind.ASSET_MATERIALIZATION, Kind.STEP_SUCCESS):
        assert kinds[kind] == len(specs)
    assert kinds[Kind.ASSET_CHECK_EVALUATION] == len(checks)
    assert not {Kind.RESOURCE_INIT_STARTED, Kind.RESOURCE_INIT_SUCCESS, Kind.HANDLED_OUTPUT} & kinds.keys()
    for spec, name in checks:
        key = dg.AssetCheckKey(dg.AssetKey(["quper", spec.table.name]), name)
        last, _ = stored.event_log_storage.get_asset_check_execution_history(key, limit=2)
        assert last.run_id == run_id and last.status is AssetCheckExecutionRecordStatus.SUCCEEDED
        assert last.event in events
    found = stored.get_latest_materialization_event(dg.AssetKey(["quper", "table_stats"]))
    assert found in events and found.asset_materialization
    assert {"read_mode", "counts", "dagster/row_count"} <= set(found.asset_materialization.metadata)


def test_events_of_other_code_are_kept(stored: dg.DagsterInstance, target: Query) -> None:
    """Outputs that other steps may read, also one with the name of a check, a check in progress, and what an IO manager
    says; and rows that were written as they are can be read."""

    class Store(dg.IOManager):
        def handle_output(self, context: dg.OutputContext, obj: object) -> None:
            context.add_output_metadata({"size": len("ß" * 5000)} if obj else {})

        def load_input(self, context: dg.InputContext) -> None: ...

    @dg.op(out={"a": dg.Out(), "work_b": dg.Out()})
    def work() -> Iterator[dg.Output[object]]:
        yield dg.Output(None, "a")
        yield dg.Output("ß" * 5000, "work_b")
        dg.get_dagster_logger().info("ß" * 5000)

    @dg.job(resource_defs={"io_manager": dg.IOManagerDefinition.hardcoded_io_manager(Store())})
    def of_others() -> None:
        work()

    run_id = of_others.execute_in_process(instance=stored).run_id
    events = stored.all_logs(run_id)
    outputs = [
        entry.get_dagster_event().step_output_data for entry in events if entry.dagster_event_type == Kind.STEP_OUTPUT
    ]
    assert [output.step_output_handle.output_name for output in outputs] == ["a", "work_b"]
    assert [entry.dagster_event_type for entry in events].count(Kind.HANDLED_OUTPUT) == 1
    assert any(entry.user_message == "ß" * 5000 for entry in events)
    assert target("SELECT count(*) FROM event_logs WHERE event LIKE 'z1:%%'") == [(len(events),)]
    target("UPDATE event_logs SET event = %s WHERE dagster_event_type = 'STEP_START'", [serialize_value(events[1])])
    assert events[1] in stored.all_logs(run_id)
    target("UPDATE event_logs SET event = %s", [serialize_value(events[1])])
    assert stored.all_logs(run_id) == [events[1]] * len(events)


def _bytes(target: Query) -> int:
    found = target(" UNION ALL ".join(f"SELECT sum(pg_column_size(t.*)) FROM {table} AS t" for table in TABLES))
    return sum(int(size or 0) for (size,) in found)
