"""The interval of a job of a cluster, from three variables."""

from __future__ import annotations

import pytest

from qupersync_assets.settings import Settings, SettingsError
from qupersync_assets.sync.job_choice import cluster_interval, jobs_by_cluster
from qupersync_assets_tests.unit.conftest import TWO_CLUSTERS, Load

NODES, QUERIES = "node_details_sync", "query_history_sync"


@pytest.mark.parametrize(
    ("own", "of_job", "expected"),
    [
        *((None, None, 300), (None, "60", 60), (None, "3600", 3600), ("3600", None, 3600), ("60", None, 60)),
        # The longer one: neither is the cluster contacted more often than it says, nor the job run more often.
        *(("3600", "60", 3600), ("60", "3600", 3600)),
    ],
)
def test_a_cluster_and_a_job_may_have_their_own_interval(
    load: Load, own: str | None, of_job: str | None, expected: int
) -> None:
    intervals = of_job and f"{NODES}={of_job}"
    settings = load(**TWO_CLUSTERS, REDSHIFT_EU_WEST_SYNC_INTERVAL=own, SYNC_JOB_INTERVALS=intervals)
    assert settings.interval("eu-west", NODES) == expected
    assert settings.interval("prod", NODES) == int(of_job or 300)
    assert settings.interval("prod", QUERIES) == 300
    assert settings.interval("eu-west", QUERIES) == int(own or 300)


def test_one_cluster_has_the_interval_too(load: Load) -> None:
    assert load(REDSHIFT_SYNC_INTERVAL="900").interval("default", NODES) == 900


def test_a_cluster_is_contacted_when_the_first_of_its_jobs_is_due(load: Load) -> None:
    every_job = ",".join(f"{spec.sync_job_id}=7200" for spec in jobs_by_cluster(load())["default"])
    assert cluster_interval(load(SYNC_JOB_INTERVALS=every_job), "default") == 7200
    faster = load(SYNC_JOB_INTERVALS=f"{NODES}=60, {QUERIES} = 3600")
    assert cluster_interval(faster, "default") == 60
    assert cluster_interval(load(SYNC_JOBS=QUERIES, SYNC_JOB_INTERVALS=f"{NODES}=60"), "default") == 300


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3600", "job=seconds"),
        (f"{NODES}", "job=seconds"),
        (f"{NODES}=", "job=seconds"),
        (f"{NODES}=60=60", "job=seconds"),
        (f"{NODES}=60,,{QUERIES}=60", "empty"),
        (f"{NODES}=60,{NODES}=90", "named twice"),
        (f"{NODES}=5", "greater than or equal to 10"),
        (f"{NODES}=hourly", "allowed is a whole number, unlike"),
        (f"{NODES}=99999999", "less than or equal to"),
    ],
)
def test_an_invalid_job_interval_names_the_variable(load: Load, value: str, expected: str) -> None:
    with pytest.raises(SettingsError, match=rf"SYNC_JOB_INTERVALS=.*{expected}"):
        load(SYNC_JOB_INTERVALS=value)


def test_an_unknown_job_is_refused_with_a_similar_name(load: Load) -> None:
    settings = load(SYNC_JOB_INTERVALS="node_detail_sync=60")
    with pytest.raises(
        SettingsError, match=r"SYNC_JOB_INTERVALS='node_detail_sync=60'.*did you mean node_details_sync"
    ):
        jobs_by_cluster(settings)


def test_an_invalid_interval_of_a_cluster_names_its_variable(load: Load) -> None:
    with pytest.raises(SettingsError, match="REDSHIFT_EU_WEST_SYNC_INTERVAL='5'"):
        load(**TWO_CLUSTERS, REDSHIFT_EU_WEST_SYNC_INTERVAL="5")
    with pytest.raises(SettingsError, match=r"REDSHIFT_SYNC_INTERVAL.*REDSHIFT_<NAME>_SYNC_INTERVAL"):
        load(**TWO_CLUSTERS, REDSHIFT_SYNC_INTERVAL="900")


def test_the_environment_has_the_intervals(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        **TWO_CLUSTERS, REDSHIFT_PROD_SYNC_INTERVAL="900", SYNC_JOB_INTERVALS=f"{NODES}=60", SYNC_INTERVAL="90"
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    again = Settings.load()
    assert again.interval("prod", NODES) == 900 and again.interval("eu-west", NODES) == 60
