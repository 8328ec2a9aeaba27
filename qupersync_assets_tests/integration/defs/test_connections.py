"""A run leaves no connection open, however often one process runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from qupersync_assets_tests.support.integration import Materialize, Query


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is closed only because Python happens to look for garbage."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_run_closes_its_connections(uncollected: None, materialize: Materialize, target: Query) -> None:
    own_sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'qupersync'"
    ((before,),) = target(own_sessions)
    for _ in range(3):
        assert materialize("node_details", "query_history").success
    assert target(own_sessions) == [(before,)]
