"""A cluster that was restored or replaced numbers its queries again: no old query is replaced."""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import uuid4

import pytest

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.postgres.loader import load
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync_jobs import all_specs, query_metrics
from qupersync_assets_tests.support.cluster_story import BASE, StorySource
from qupersync_assets_tests.support.integration import Query

NUMBERED = [spec for spec in all_specs() if [c.name for c in spec.source_key] == ["query_id"]]


def load_rows(postgres: PostgresResource, spec: SyncSpec, cluster: str, raw: bool, *hours: float) -> None:
    """Load rows with the keys 1, 2 ..., which started so many hours ago."""
    times = [BASE - timedelta(hours=ago) for ago in hours]
    rows = [{"query_id": n, "start_time": time, "end_time": time} for n, time in enumerate(times, 1)]
    source = StorySource(spec, "view", rows, raw)
    load(postgres, spec, cluster, str(uuid4()), source, logging.getLogger(__name__), timedelta(hours=1))


@pytest.mark.parametrize("spec", NUMBERED, ids=lambda spec: spec.sync_job_id)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "decoded"])
@pytest.mark.parametrize("jump", [2, -2], ids=["earlier", "later"])
def test_a_number_that_is_used_again_replaces_no_row(
    postgres: PostgresResource, target: Query, spec: SyncSpec, raw: bool, jump: int
) -> None:
    held = f"SELECT cluster, query_id, start_time, end_time FROM {spec.table.fullname} ORDER BY 1, 2"
    for cluster, first in (("one", 9), ("two", 90)):  # equal numbers of another cluster are other queries
        load_rows(postgres, spec, cluster, raw, first, 5)
    load_rows(postgres, spec, "one", raw, 8.99, 5)
    before = target(held)
    assert len(before) == 4
    with pytest.raises(SyncError, match=r"^Redshift has used number 2 again.*Give the cluster another name") as caught:
        load_rows(postgres, spec, "one", raw, 8.99, 5 + jump, 4)
    assert caught.value.error_class is ErrorClass.FATAL
    assert target(held) == before
    load_rows(postgres, spec, "new", raw, 8.99, 5 + jump, 4)
    assert target(held.replace(" ORDER", " WHERE cluster <> 'new' ORDER")) == before


def test_metrics_of_a_query_whose_first_steps_have_expired_are_its_own(
    postgres: PostgresResource, target: Query
) -> None:
    for start in (50, 10):
        rows = [{"query_id": 1, "start_time": BASE - timedelta(hours=start), "end_time": BASE - timedelta(hours=9)}]
        source = StorySource(query_metrics.SPEC, "view", rows, raw=True)
        load(postgres, query_metrics.SPEC, "one", str(uuid4()), source, logging.getLogger(), timedelta(hours=1))
    assert target("SELECT start_time FROM quper.query_metrics") == [(BASE - timedelta(hours=50),)]
