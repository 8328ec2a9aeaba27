"""SYNC_JOBS: which jobs are on in which cluster, and errors for unknown names."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from qupersync_assets.defs import build_definitions
from qupersync_assets.settings import SettingsError
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.job_choice import jobs_by_cluster, jobs_on
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.unit.conftest import TWO_CLUSTERS, Load

DEFAULT = [spec.sync_job_id for spec in default_specs()]


def names(specs: Any) -> list[str]:
    return [spec.sync_job_id for spec in specs]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, DEFAULT),
        ("default", DEFAULT),
        ("user_session_sync , default", sorted([*DEFAULT, "user_session_sync"])),
        ("user_session_sync,node_details_sync", ["node_details_sync", "user_session_sync"]),
    ],
)
def test_jobs_of_one_cluster(load: Load, optional_job: SyncSpec, chosen: str | None, expected: list[str]) -> None:
    assert names(jobs_on(load(SYNC_JOBS=chosen))) == expected


def test_a_cluster_has_its_own_choice_or_that_of_all(load: Load, optional_job: SyncSpec) -> None:
    settings = load(**TWO_CLUSTERS, SYNC_JOBS="node_details_sync", REDSHIFT_EU_WEST_SYNC_JOBS="user_session_sync")
    chosen = jobs_by_cluster(settings)
    assert [names(specs) for specs in chosen.values()] == [["node_details_sync"], ["user_session_sync"]]
    assert names(jobs_on(settings)) == ["node_details_sync", "user_session_sync"]
    assert names(jobs_on(settings, ["eu-west"])) == ["user_session_sync"]


def test_unknown_names_are_reported_with_their_variables(load: Load) -> None:
    settings = load(**TWO_CLUSTERS, SYNC_JOBS="default,table_stat_sync", REDSHIFT_EU_WEST_SYNC_JOBS="zzz")
    with pytest.raises(SettingsError) as refusal:
        build_definitions(settings)
    one, two = refusal.value.lines
    assert (
        "  SYNC_JOBS='default,table_stat_sync': there is no sync job 'table_stat_sync'; did you mean table_stats_sync?"
        in one
    )
    assert (
        "  REDSHIFT_EU_WEST_SYNC_JOBS='zzz': there is no sync job 'zzz'. Allowed are default, alert_events_sync," in two
    )


@pytest.mark.parametrize("variable", ["SYNC_JOBS", "REDSHIFT_SYNC_JOBS"])
def test_an_empty_name_is_refused_at_load(load: Load, variable: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}='default,,': .*one of these is empty"):
        load(**{variable: "default,,"})


def test_a_job_that_is_off_in_all_clusters_has_no_objects(load: Load, optional_job: SyncSpec) -> None:
    settings = load(**TWO_CLUSTERS, SYNC_JOBS="user_session_sync", REDSHIFT_PROD_SYNC_JOBS="node_details_sync")
    repository = build_definitions(settings).get_repository_def()
    graph = repository.asset_graph
    assert graph.materializable_asset_keys == {
        dg.AssetKey(["quper", name]) for name in ("node_details", "user_sessions", "health_findings")
    }
    assert graph.external_asset_keys == {
        dg.AssetKey(["redshift", name]) for name in ("stv_node_storage_capacity", "stv_sessions")
    }
    assert {key.asset_key for key in graph.asset_check_keys} == graph.materializable_asset_keys
    assert {name for name in repository.job_names if name.endswith("_sync")} == {
        "node_details_sync",
        "user_session_sync",
    }
