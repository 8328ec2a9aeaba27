"""The state of Dagster from the tables of its storage equals what Dagster says."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from qupersync_assets.defs.instance import read_state
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sync.dagster_state import SCHEDULE_NAME, is_in_target, read_target
from qupersync_assets_tests.support.dagster_state import beat, queue_run, switch_off
from qupersync_assets_tests.support.integration import Query


def test_without_tables_there_is_no_state(postgres: PostgresResource, target: Query) -> None:
    target("ALTER TABLE IF EXISTS instigators RENAME TO instigators_elsewhere")
    try:
        assert read_target(postgres) is None
    finally:
        target("ALTER TABLE IF EXISTS instigators_elsewhere RENAME TO instigators")


@pytest.mark.parametrize("age", [None, 5, 500])
def test_state_is_that_of_dagster(dagster_home: Path, postgres: PostgresResource, age: int | None) -> None:
    assert is_in_target(dagster_home)
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        if age:
            beat(instance, age)
        for change in (
            lambda: None,
            lambda: queue_run(instance),
            lambda: switch_off(instance, "another"),
            lambda: switch_off(instance, SCHEDULE_NAME),
        ):
            change()
            known, found = read_state(instance), read_target(postgres)
            assert found is not None and found.queued_run == known.queued_run
            assert found.schedule_on == known.schedule_on
            assert found.heartbeat.fresh == known.heartbeat.fresh == (age == 5)
            assert found.heartbeat.age == pytest.approx(known.heartbeat.age, abs=2)
        assert not found.schedule_on and found.queued_run


@pytest.mark.parametrize("storage", ["", "storage: {sqlite: {base_dir: /tmp}}", ": ["])
def test_other_storages_are_not_in_the_target(tmp_path: Path, storage: str) -> None:
    (tmp_path / "dagster.yaml").write_text(storage)
    assert not is_in_target(tmp_path) and not is_in_target(tmp_path / "missing")
