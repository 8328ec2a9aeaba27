"""Several clusters: their variables, what they inherit, and errors."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from qupersync_assets.settings import SettingsError
from qupersync_assets.settings.redshift import FIELDS
from qupersync_assets.settings.redshift_login import PasswordLogin
from qupersync_assets_tests.unit.conftest import TWO_CLUSTERS, Load

IAM = {"REDSHIFT_PROD_IAM": "true", "REDSHIFT_PROD_PASSWORD": None, "REDSHIFT_PROD_CLUSTER_IDENTIFIER": "c"}
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:quper-AbCdEf"
SECRET = {"REDSHIFT_PROD_SECRET_ARN": ARN, "REDSHIFT_PROD_PASSWORD": None}


def test_clusters_have_own_and_shared_variables(load: Load) -> None:
    prod, west = load(**TWO_CLUSTERS).by_cluster().values()
    assert isinstance(prod, PasswordLogin) and isinstance(west, PasswordLogin)
    assert (prod.host, prod.user, prod.port) == ("prod.example", "reader", 5439)
    assert (west.host, west.user, west.port) == ("west.example", "other", 5440)
    assert prod.statement_timeout == west.statement_timeout == 60
    assert prod.database == west.database == "dev"


def test_one_cluster_is_named_by_cluster_name(load: Load) -> None:
    assert load(CLUSTER_NAME="only").by_cluster() == {"only": load().by_cluster()["default"]}


@pytest.mark.parametrize(
    ("variables", "field", "inherited"),
    [
        ({**IAM, "REDSHIFT_REGION": "eu-west-1"}, "region", ("eu-west-1", None)),
        (SECRET, "user", (None, "other")),
        ({"REDSHIFT_SSL": "false", "REDSHIFT_PROD_SSL": "true"}, "ssl", (True, False)),
    ],
)
def test_a_variable_that_the_login_does_not_use_is_not_inherited(
    load: Load, variables: dict[str, str | None], field: str, inherited: tuple[Any, Any]
) -> None:
    settings = load(**{**TWO_CLUSTERS, **variables})
    assert tuple(getattr(source, field, None) for source in settings.by_cluster().values()) == inherited


def test_clusters_are_equal_after_export_to_the_environment(load: Load) -> None:
    settings = load(**{**TWO_CLUSTERS, **IAM, "REDSHIFT_REGION": "eu-west-1"})
    assert load(**{"REDSHIFT_HOST": None, **settings.environment()}).by_cluster() == settings.by_cluster()


@pytest.mark.parametrize(
    ("variables", "expected"),
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
        ({**SECRET, "REDSHIFT_PROD_PASSWORD": "hunter2"}, {"REDSHIFT_PROD_PASSWORD": "REDSHIFT_PROD_SECRET_ARN"}),
        (
            {"REDSHIFT_PROD_HOST": None, "REDSHIFT_EU_WEST_HOST": None, "SYNC_INTERVAL": "x"},
            dict.fromkeys(["REDSHIFT_PROD_HOST", "REDSHIFT_EU_WEST_HOST", "SYNC_INTERVAL"], ""),
        ),
    ],
    ids=str,
)
def test_invalid_variables_of_clusters_are_reported(
    load: Load, variables: dict[str, str | None], expected: dict[str, str]
) -> None:
    with pytest.raises(SettingsError) as refusal:
        load(**{**TWO_CLUSTERS, **variables})
    lines = re.findall(r"^  ([A-Z_]+)(.*)$", str(refusal.value), re.MULTILINE)
    assert sorted(variable for variable, _ in lines) == sorted(expected)
    assert all(expected[variable] in text for variable, text in lines)
    assert "hunter" not in str(refusal.value)


def test_no_variable_belongs_to_two_clusters() -> None:
    assert not [(a, b) for a, b in itertools.permutations(FIELDS, 2) if a.endswith(f"_{b}")]


def test_databases_are_inherited_or_set_for_each_cluster(load: Load) -> None:
    settings = load(**TWO_CLUSTERS, REDSHIFT_DATABASES=" dev , sales", REDSHIFT_EU_WEST_DATABASES="*")
    assert [source.databases for source in settings.by_cluster().values()] == ["dev,sales", "*"]
    with pytest.raises(SettingsError, match=r"REDSHIFT_EU_WEST_DATABASES='dev,\*': allowed is \* alone"):
        load(**TWO_CLUSTERS, REDSHIFT_EU_WEST_DATABASES="dev,*")
