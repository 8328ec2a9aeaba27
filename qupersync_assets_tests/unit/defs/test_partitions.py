"""Several clusters: the partitions, resources and ticks."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.test_utils import create_run_for_test
from dagster_shared.serdes import serialize_value

from qupersync_assets_tests.support.ticks import JOB, Clock, Ticker, last_tick
from qupersync_assets_tests.unit.conftest import TWO_CLUSTERS, Build


@pytest.fixture
def definitions(build: Build) -> dg.Definitions:
    return build(**TWO_CLUSTERS)


def snapshot(definitions: dg.Definitions) -> str:
    return serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))


def test_assets_and_checks_are_partitioned_by_cluster(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.get_repository_def().asset_graph
    for key in graph.materializable_asset_keys:
        [*checks] = graph.get(key).assets_def.check_specs
        assert checks
        for partitions in [graph.get(key).partitions_def, *(check.partitions_def for check in checks)]:
            assert partitions is not None and partitions.get_partition_keys() == ["prod", "eu-west"]


@pytest.mark.parametrize("variables", [{}, {**TWO_CLUSTERS, "CLUSTERS": "prod"}], ids=["CLUSTER_NAME", "CLUSTERS"])
def test_one_cluster_has_no_partitions(build: Build, variables: dict[str, str | None]) -> None:
    definitions = build(**variables)
    assert "StaticPartitions" not in snapshot(definitions)
    assert set(definitions.resources or ()) == {"redshift", "postgres", "postgres_io_manager", "io_manager"}


def test_definitions_contain_no_password(definitions: dg.Definitions) -> None:
    text = snapshot(definitions) + repr(definitions.resources)
    assert "StaticPartitions" in text
    assert "hunter2" not in text
    assert {"redshift_prod", "redshift_eu_west"} <= set(definitions.resources or ())


@pytest.fixture(params=[300, 430], ids=["schedule", "sensor"])
def ticker(request: pytest.FixtureRequest, build: Build, instance: dg.DagsterInstance, clock: Clock) -> Ticker:
    """A ticker of two clusters that was due a second ago."""
    ticker = Ticker(build(**TWO_CLUSTERS, SYNC_INTERVAL=str(request.param)), instance)
    clock.now = last_tick(clock.now, request.param) + 1.0  # before the events of new runs
    return ticker


def requested(tick: Any) -> list[str]:
    """The clusters that a tick asks a run for."""
    assert len({request.run_key for request in tick.run_requests}) == len(tick.run_requests)
    for request in tick.run_requests:
        assert request.tags["qupersync/cluster"] == request.tags["dagster/partition"] == request.partition_key
        assert request.asset_selection is None
    return [request.partition_key for request in tick.run_requests]


def test_a_tick_requests_one_run_per_cluster(ticker: Ticker, clock: Clock) -> None:
    assert requested(ticker.look(clock.now - 1)) == ["prod", "eu-west"]


@pytest.mark.parametrize(
    "run",
    [
        {"job_name": JOB, "tags": {"qupersync/cluster": "prod"}},
        # A backfill of one asset, by hand.
        {
            "job_name": "__ASSET_JOB",
            "tags": {"dagster/partition": "prod"},
            "asset_selection": frozenset({dg.AssetKey(["quper", "node_details"])}),
        },
    ],
    ids=lambda run: str(run["job_name"]),
)
def test_a_tick_skips_only_the_busy_cluster(ticker: Ticker, clock: Clock, run: dict[str, Any]) -> None:
    create_run_for_test(ticker.instance, status=dg.DagsterRunStatus.STARTED, **run)
    assert requested(ticker.look(clock.now - 1)) == ["eu-west"]


def test_a_tick_is_skipped_if_all_are_busy(ticker: Ticker, clock: Clock) -> None:
    for cluster in ("prod", "eu-west"):
        create_run_for_test(
            ticker.instance, JOB, status=dg.DagsterRunStatus.STARTED, tags={"qupersync/cluster": cluster}
        )
    tick = ticker.look(clock.now - 1)
    assert not tick.run_requests
    assert "of prod is STARTED" in tick.skip_message and "of eu-west is STARTED" in tick.skip_message


def test_a_run_without_a_cluster_blocks_all_clusters(ticker: Ticker, clock: Clock) -> None:
    create_run_for_test(ticker.instance, JOB, status=dg.DagsterRunStatus.STARTED)
    assert not ticker.look(clock.now - 1).run_requests


def test_a_late_tick_is_skipped(ticker: Ticker, clock: Clock) -> None:
    clock.now += 100
    assert "SYNC_MISFIRE_GRACE" in ticker.look(clock.now - 101).skip_message
