"""Several clusters: their variables, what is refused, and the partitions, resources and ticks that follow."""

from __future__ import annotations

import itertools
import re
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.test_utils import create_run_for_test
from dagster_shared.serdes import serialize_value

from qupersync_assets.settings import SettingsError
from qupersync_assets.settings.redshift import RedshiftSettings
from qupersync_assets_tests.support.ticks import JOB, Clock, Ticker
from qupersync_assets_tests.unit.conftest import Build, Load

NOTHING: dict[str, str | None] = {"REDSHIFT_HOST": None}
TWO: dict[str, str | None] = {
    **NOTHING,
    "CLUSTERS": "prod, eu-west",
    "REDSHIFT_PROD_HOST": "prod.example",
    "REDSHIFT_PROD_PASSWORD": "hunter2-of-prod",
    "REDSHIFT_EU_WEST_HOST": "west.example",
    "REDSHIFT_EU_WEST_PASSWORD": "hunter2-of-west",
    "REDSHIFT_EU_WEST_USER": "other",
    "REDSHIFT_EU_WEST_PORT": "5440",
    "REDSHIFT_STATEMENT_TIMEOUT": "60",
}
IAM = {"REDSHIFT_PROD_IAM": "true", "REDSHIFT_PROD_PASSWORD": None, "REDSHIFT_PROD_CLUSTER_IDENTIFIER": "c"}
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:quper-AbCdEf"
SECRET = {"REDSHIFT_PROD_SECRET_ARN": ARN, "REDSHIFT_PROD_PASSWORD": None}


def test_each_cluster_has_its_own_and_the_rest_is_common(load: Load) -> None:
    prod, west = load(**TWO).by_cluster().values()
    assert (prod.redshift_host, prod.redshift_user, prod.redshift_port) == ("prod.example", "reader", 5439)
    assert (west.redshift_host, west.redshift_user, west.redshift_port) == ("west.example", "other", 5440)
    assert prod.redshift_statement_timeout == west.redshift_statement_timeout == 60
    assert prod.redshift_database == west.redshift_database == "dev"


def test_one_cluster_is_named_by_cluster_name(load: Load) -> None:
    settings = load(CLUSTER_NAME="only")
    assert settings.by_cluster() == {"only": settings}


@pytest.mark.parametrize(
    ("variables", "field", "taken"),
    [
        ({**IAM, "REDSHIFT_REGION": "eu-west-1"}, "redshift_region", ("eu-west-1", None)),
        (SECRET, "redshift_user", (None, "other")),
        ({"REDSHIFT_SSL": "false", "REDSHIFT_PROD_SSL": "true"}, "redshift_ssl", (True, False)),
    ],
)
def test_what_a_login_has_no_use_for_is_not_taken_over(
    load: Load, variables: dict[str, str | None], field: str, taken: tuple[Any, Any]
) -> None:
    settings = load(**{**TWO, **variables})
    assert tuple(getattr(source, field) for source in settings.by_cluster().values()) == taken


def test_the_clusters_survive_the_way_through_the_environment(load: Load) -> None:
    settings = load(**{**TWO, **IAM, "REDSHIFT_REGION": "eu-west-1"})
    assert load(**{**NOTHING, **settings.environment()}).by_cluster() == settings.by_cluster()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CLUSTERS": "prod,,west"}, {"CLUSTERS": "empty"}),
        ({"CLUSTERS": "prod,"}, {"CLUSTERS": "empty"}),
        ({"CLUSTERS": ","}, {"CLUSTERS": "empty"}),
        ({"CLUSTERS": "prod,prod"}, {"CLUSTERS": "'prod' is named twice"}),
        ({"CLUSTERS": "eu-west,EU_West"}, {"CLUSTERS": "REDSHIFT_EU_WEST_*"}),
        ({"CLUSTERS": "prod,e.u"}, {"CLUSTERS": "letters, digits, - and _, unlike in 'e.u'"}),
        ({"CLUSTERS": "prod,é"}, {"CLUSTERS": "letters"}),
        ({"CLUSTER_NAME": "prod"}, {"CLUSTER_NAME": "CLUSTERS"}),
        ({"REDSHIFT_HOST": "h"}, {"REDSHIFT_HOST": "REDSHIFT_<NAME>_HOST"}),
        ({"REDSHIFT_PASSWORD": "hunter2"}, {"REDSHIFT_PASSWORD": "REDSHIFT_<NAME>_PASSWORD"}),
        ({"REDSHIFT_PROD_HOST": None}, {"REDSHIFT_PROD_HOST": "is not set"}),
        ({"REDSHIFT_USER": None}, {"REDSHIFT_PROD_USER": "is not set"}),
        ({"REDSHIFT_EU_WEST_PORT": "0"}, {"REDSHIFT_EU_WEST_PORT": "='0'"}),
        ({"REDSHIFT_PORT": "0"}, {"REDSHIFT_PORT": "='0'"}),
        ({**IAM}, {"REDSHIFT_PROD_REGION": "REDSHIFT_PROD_IAM=true needs it, as REDSHIFT_PROD_HOST"}),
        (
            {**SECRET, "REDSHIFT_PROD_PASSWORD": "hunter2"},
            {"REDSHIFT_PROD_PASSWORD": "REDSHIFT_PROD_SECRET_ARN"},
        ),
        (
            {"REDSHIFT_PROD_HOST": None, "REDSHIFT_EU_WEST_HOST": None, "SYNC_INTERVAL": "x"},
            dict.fromkeys(["REDSHIFT_PROD_HOST", "REDSHIFT_EU_WEST_HOST", "SYNC_INTERVAL"], ""),
        ),
    ],
    ids=str,
)
def test_what_is_refused(load: Load, variables: dict[str, str | None], said: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as refusal:
        load(**{**TWO, **variables})
    lines = re.findall(r"^  ([A-Z_]+)(.*)$", str(refusal.value), re.MULTILINE)
    assert sorted(variable for variable, _ in lines) == sorted(said)
    assert all(said[variable] in text for variable, text in lines)
    assert "hunter" not in str(refusal.value)


def test_no_variable_can_be_meant_for_two_clusters() -> None:
    fields = [field.removeprefix("redshift_") for field in RedshiftSettings.model_fields]
    assert not [(a, b) for a, b in itertools.permutations(fields, 2) if a.endswith(f"_{b}")]


@pytest.fixture
def definitions(build: Build) -> dg.Definitions:
    return build(**TWO)


def told(definitions: dg.Definitions) -> str:
    return serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))


def test_assets_and_checks_are_partitioned_by_cluster(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.get_repository_def().asset_graph
    for key in graph.materializable_asset_keys:
        [*checks] = graph.get(key).assets_def.check_specs
        assert checks
        for partitions in [graph.get(key).partitions_def, *(check.partitions_def for check in checks)]:
            assert partitions is not None and partitions.get_partition_keys() == ["prod", "eu-west"]


@pytest.mark.parametrize("variables", [{}, {**TWO, "CLUSTERS": "prod"}], ids=["CLUSTER_NAME", "CLUSTERS"])
def test_nothing_of_it_shows_with_one_cluster(build: Build, variables: dict[str, str | None]) -> None:
    definitions = build(**variables)
    assert "StaticPartitions" not in told(definitions)
    assert set(definitions.resources or ()) == {"redshift", "postgres", "postgres_io_manager"}


def test_dagster_gets_no_secret(definitions: dg.Definitions) -> None:
    text = told(definitions) + repr(definitions.resources)
    assert "StaticPartitions" in text
    assert "hunter2" not in text
    assert {"redshift_prod", "redshift_eu_west"} <= set(definitions.resources or ())


@pytest.fixture(params=[300, 420], ids=["schedule", "sensor"])
def ticker(
    request: pytest.FixtureRequest, build: Build, instance: dg.DagsterInstance, clock: Clock
) -> Ticker:
    """A ticker of two clusters that was due a second ago."""
    ticker = Ticker(build(**TWO, SYNC_INTERVAL=str(request.param)), instance)
    clock.now = clock.now // request.param * request.param + 1.0  # before the events of new runs
    return ticker


def requested(tick: Any) -> list[str]:
    """The clusters that a tick asks a run for."""
    assert len({request.run_key for request in tick.run_requests}) == len(tick.run_requests)
    for request in tick.run_requests:
        assert request.tags["qupersync/cluster"] == request.tags["dagster/partition"] == request.partition_key
        assert request.asset_selection is None
    return [request.partition_key for request in tick.run_requests]


def test_a_tick_asks_for_one_run_a_cluster(ticker: Ticker, clock: Clock) -> None:
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
def test_a_tick_leaves_only_the_busy_cluster_out(ticker: Ticker, clock: Clock, run: dict[str, Any]) -> None:
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


def test_a_run_that_may_be_of_any_cluster_holds_up_all(ticker: Ticker, clock: Clock) -> None:
    create_run_for_test(ticker.instance, JOB, status=dg.DagsterRunStatus.STARTED)
    assert not ticker.look(clock.now - 1).run_requests


def test_a_late_tick_is_skipped(ticker: Ticker, clock: Clock) -> None:
    clock.now += 100
    assert "SYNC_MISFIRE_GRACE" in ticker.look(clock.now - 101).skip_message
