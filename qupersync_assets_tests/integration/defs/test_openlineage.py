"""OpenLineage events of syncs, sent by dagster-openlineage to a receiver, with the dagster.yaml of docs/integrations.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from qupersync_assets_tests.support.doc_blocks import PROJECT, blocks
from qupersync_assets_tests.support.integration import Command, Query
from qupersync_assets_tests.support.lineage_server import COLUMN_LINEAGE, EVENTS, LineageServer, faults

TABLE, VIEW = "quper/node_details", "redshift/stv_node_storage_capacity"


@pytest.fixture
def lineage_home(qupersync: Command, dagster_home: Path) -> Path:
    """The Dagster instance has the storage of the document, after a run with that of the project."""
    assert qupersync("sync", "applications").code == 0
    [documented] = [b for b in blocks(PROJECT / "docs" / "integrations.md") if "dagster_openlineage" in b.text]
    file = dagster_home / "dagster.yaml"
    project: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    del project["storage"]
    file.write_text(yaml.safe_dump(project | yaml.safe_load(documented.text)), "utf-8")
    return dagster_home


def test_a_sync_sends_its_start_its_end_and_the_lineage_of_columns(
    qupersync: Command, source: Query, target: Query, lineage_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source("INSERT INTO stv_node_storage_capacity VALUES (0, 1, 9), (1, 2, 9)")
    with LineageServer() as server:
        monkeypatch.setenv("OPENLINEAGE_URL", server.url)
        assert qupersync("sync", "node_details").code == 0
        succeeded = [event for _, event in server.received]
        monkeypatch.setenv("REDSHIFT_PASSWORD", "wrong")
        assert qupersync("sync", "node_details").code == 1
        failed = [event for _, event in server.received[len(succeeded) :]]
    assert {path for path, _ in server.received} == {"/api/v1/lineage"}
    for event in (*succeeded, *failed):
        assert faults(event, EVENTS[event["schemaURL"]]) == [], event

    assert [kinds(events, TABLE) for events in (succeeded, failed)] == [["START", "COMPLETE"], ["START", "FAIL"]]
    start, complete = (event for event in succeeded if of_job(event, TABLE))
    assert start["run"]["runId"] == complete["run"]["runId"] != failed[0]["run"]["runId"]
    [table] = complete["outputs"]
    assert (table["namespace"], table["name"]) == ("warehouse", TABLE)
    lineage = table["facets"]["columnLineage"]
    assert faults(lineage, COLUMN_LINEAGE) == []
    [used] = lineage["fields"]["used_mb"]["inputFields"]
    assert (used["namespace"], used["name"], used["field"]) == ("warehouse", VIEW, "used")
    assert set(kinds(succeeded, f"{TABLE}__checks")) == {"COMPLETE"}
    assert VIEW in [event["dataset"]["name"] for event in succeeded if "dataset" in event]
    with dg.DagsterInstance.from_config(str(lineage_home)) as instance:
        ended = [instance.all_logs(run.run_id)[-1].dagster_event_type for run in instance.get_runs()]
    assert [kind.value for kind in ended if kind] == ["PIPELINE_FAILURE", "PIPELINE_SUCCESS", "PIPELINE_SUCCESS"]
    # The wrapped storage is that of QuperSync, too, which leaves planned checks to their own table.
    assert target("SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_CHECK_EVALUATION_PLANNED'") == [
        (0,)
    ]
    assert target("SELECT count(*) FROM asset_check_executions")[0][0] > 0


def of_job(event: dict[str, Any], job: str) -> bool:
    return "job" in event and event["job"]["name"] == job


def kinds(events: list[dict[str, Any]], job: str) -> list[str]:
    """Return the types of the events of a job, in their order."""
    return [event["eventType"] for event in events if of_job(event, job)]
