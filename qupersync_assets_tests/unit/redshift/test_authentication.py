"""Logins to Redshift: the driver's arguments, the content of AWS secrets, and private CAs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import redshift_connector
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value
from pydantic import SecretStr

from qupersync_assets.redshift import authentication
from qupersync_assets.redshift.authentication import LoginError, login_arguments, trusting, with_secret
from qupersync_assets.redshift.resource import RedshiftResource, session_settings
from qupersync_assets.settings.redshift_login import (
    IamClusterLogin,
    IamServerlessLogin,
    PasswordLogin,
    RedshiftSettings,
    SecretLogin,
)
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.unit.conftest import Build

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:quper-AbCdEf"
HERE: dict[str, Any] = {"host": "h.example", "port": 5439, "database": "dev"}
AWS = {
    "access_key_id": SecretStr("hunter2-key"),
    "secret_access_key": SecretStr("hunter2-secret"),
    "session_token": SecretStr("hunter2-token"),
}
KEYS = {"REDSHIFT_ACCESS_KEY_ID": "AKIA", "REDSHIFT_SECRET_ACCESS_KEY": "hunter3"}
IAM = {"REDSHIFT_IAM": "true", "REDSHIFT_CLUSTER_IDENTIFIER": "quper", "REDSHIFT_REGION": "eu-west-1"}


@pytest.mark.parametrize(
    ("login", "arguments"),
    [
        (
            PasswordLogin(**HERE, user="reader", password=SecretStr("hunter2")),
            {"user": "reader", "password": "hunter2"},
        ),
        (PasswordLogin(**HERE, user="reader"), {"user": "reader", "password": ""}),
        (
            IamClusterLogin(**HERE, user="reader", cluster_identifier="c", region="r", profile="p"),
            {
                **{"iam": True, "iam_disable_cache": True, "cluster_identifier": "c", "db_user": "reader"},
                **{"region": "r", "profile": "p"},
            },
        ),
        (
            IamServerlessLogin(**HERE, workgroup="w", account_id="123456789012", region="r", **AWS),
            {
                **{"iam": True, "iam_disable_cache": True, "is_serverless": True, "region": "r"},
                **{"serverless_work_group": "w", "serverless_acct_id": "123456789012"},
                **{"access_key_id": "hunter2-key", "secret_access_key": "hunter2-secret"},
                **{"session_token": "hunter2-token"},
            },
        ),
    ],
)
def test_arguments_of_the_driver(login: RedshiftSettings, arguments: dict[str, Any]) -> None:
    assert login_arguments(login) == {**HERE, **arguments}
    assert login_arguments(login).keys() <= redshift_connector.connect.__annotations__.keys()


def test_own_queries_have_the_label_by_which_jobs_leave_them_out() -> None:
    label = session_settings(PasswordLogin(**HERE, user="reader"))["query_group"]
    variants = [variant for spec in all_specs() for variant in spec.variants]
    clauses = [v.from_clause for v in variants if re.search(r"include_own_queries.*label", v.from_clause, re.DOTALL)]
    assert len(clauses) > 3 and all(f"label) <> {label}" in c or f"label) = {label}" in c for c in clauses)


@pytest.mark.parametrize(
    "login",
    [
        PasswordLogin(**HERE, user="reader", password=SecretStr("hunter2")),
        IamServerlessLogin(**HERE, workgroup="w", region="r", **AWS),
    ],
)
def test_a_resource_shows_no_secret(login: RedshiftSettings) -> None:
    resource = RedshiftResource(login)
    assert "hunter2" not in f"{resource!r} {resource.settings!r} {resource.settings} {vars(resource)}"


def set_secret(monkeypatch: pytest.MonkeyPatch, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    monkeypatch.setattr(authentication, "_read_secret", lambda login: text)


USER = {"username": "u", "password": "p"}
ENDPOINT = {"host": "s.example", "port": 5440, "dbname": "db"}


@pytest.mark.parametrize(
    ("fields", "content", "expected"),
    [
        ({}, {**USER, **ENDPOINT}, ("s.example", 5440, "db")),
        ({}, {**USER, **ENDPOINT, "port": "5440"}, ("s.example", 5440, "db")),
        ({"database": "dev"}, {**USER, **ENDPOINT, "port": "", "dbname": None}, ("s.example", 5439, "dev")),
        ({"port": 5441, "database": "dev"}, {**USER, "host": "s"}, ("s", 5441, "dev")),
        ({"host": "h", "database": "dev"}, {**USER, **ENDPOINT}, ("h", 5439, "dev")),
        ({"host": "h"}, {**USER, "dbName": "x"}, ("h", 5439, "x")),
        ({"host": "h"}, {**USER, "database": "x"}, ("h", 5439, "x")),
    ],
)
def test_a_secret_completes_the_login(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], content: dict[str, Any], expected: tuple[str, int, str]
) -> None:
    set_secret(monkeypatch, content)
    host, port, database = expected
    login = with_secret(SecretLogin(secret_arn=ARN, ssl=False, statement_timeout=7, **fields))
    assert login == PasswordLogin(
        **{"host": host, "port": port, "database": database, "user": "u", "password": SecretStr("p")},
        **{"ssl": False, "statement_timeout": 7},
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("hunter2", ["JSON"]),
        (["hunter2"], ["JSON"]),
        ({"password": "hunter2", **ENDPOINT}, ["username"]),
        ({"username": "hunter2", **ENDPOINT}, ["password"]),
        ({"username": "u", "password": "hunter2", "host": "h"}, ["dbname", "REDSHIFT_DATABASE"]),
        ({"username": "u", "password": "hunter2", "dbname": "d"}, ["host", "REDSHIFT_HOST"]),
        ({"username": "u", "password": "hunter2", **ENDPOINT, "port": "hunter2"}, ["port"]),
    ],
)
def test_an_incomplete_secret_is_refused(monkeypatch: pytest.MonkeyPatch, content: Any, words: list[str]) -> None:
    set_secret(monkeypatch, content)
    with pytest.raises(LoginError) as refusal:
        with_secret(SecretLogin(secret_arn=ARN))
    assert all(word in str(refusal.value) for word in ["REDSHIFT_SECRET_ARN", *words])
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("before", ["before.pem", None])
def test_the_default_ca_is_restored_after_an_error(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", before or "")
    if before is None:
        monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(KeyError), trusting(Path("ca.pem")):
        assert os.environ["SSL_CERT_FILE"] == "ca.pem"
        raise KeyError
    assert os.environ.get("SSL_CERT_FILE") == before


def test_definitions_contain_no_secret_of_aws(build: Build) -> None:
    definitions = build(**IAM, **KEYS, REDSHIFT_SESSION_TOKEN="hunter4")
    text = serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))
    text += repr(definitions.resources)
    assert "redshift" in text  # the resource is there, without configuration
    assert not any(secret in text for secret in ("AKIA", "hunter", *KEYS, "REDSHIFT_SESSION_TOKEN"))
    with dg.build_resources({key: (definitions.resources or {})[key] for key in ("postgres", "redshift")}) as resources:
        # The values are in the process that reads, and only there.
        assert login_arguments(resources.redshift.settings)["session_token"] == "hunter4"


def test_the_variables_reach_the_driver(build: Build) -> None:
    ca = Path(redshift_connector.__file__).parent / "files" / "redshift-ca-bundle.crt"
    definitions = build(**IAM, **KEYS, REDSHIFT_SSL_CA=str(ca), REDSHIFT_HOST=None)
    with dg.build_resources({key: (definitions.resources or {})[key] for key in ("postgres", "redshift")}) as resources:
        settings = resources.redshift.settings
    assert login_arguments(settings) == {
        **{"iam": True, "iam_disable_cache": True, "cluster_identifier": "quper", "region": "eu-west-1"},
        **{"access_key_id": "AKIA", "secret_access_key": "hunter3"},
        **{"port": 5439, "database": "dev", "db_user": "reader"},
    }
    assert settings.ssl_ca == ca
