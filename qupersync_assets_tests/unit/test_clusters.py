"""Several clusters: their variables, and what is refused."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from qupersync_assets.redshift_settings import RedshiftSettings
from qupersync_assets.settings import SettingsError

from .conftest import Load

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
