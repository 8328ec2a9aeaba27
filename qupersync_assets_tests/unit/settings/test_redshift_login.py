"""Logins: what the driver is given, what a secret may hold, and which combinations of settings are refused."""

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
from redshift_connector.redshift_property import RedshiftProperty

from qupersync_assets.core.redaction import SECRET_SUFFIXES, redact
from qupersync_assets.redshift.authentication import (
    Account,
    Aws,
    LoginError,
    login_arguments,
    trusting,
    with_secret,
)
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.settings import SettingsError, secrets
from qupersync_assets.settings import redshift_login as login
from qupersync_assets_tests.unit.conftest import Build, Load

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:quper-AbCdEf"
HERE = Account("h.example", 5439, "dev", "reader", "hunter2")
IAM = {"REDSHIFT_IAM": "true", "REDSHIFT_CLUSTER_IDENTIFIER": "quper", "REDSHIFT_REGION": "eu-west-1"}
SERVERLESS = {"REDSHIFT_IAM": "true", "REDSHIFT_WORKGROUP": "wg", "REDSHIFT_REGION": "eu-west-1"}
KEYS = {"REDSHIFT_ACCESS_KEY_ID": "AKIA", "REDSHIFT_SECRET_ACCESS_KEY": "hunter3"}
NO_USER: dict[str, str | None] = {"REDSHIFT_USER": None}
SECRET: dict[str, str | None] = {"REDSHIFT_SECRET_ARN": ARN, **NO_USER}
CLUSTER_HOST = "quper.abc123.eu-west-1.redshift.amazonaws.com"


@pytest.mark.parametrize(
    ("account", "aws", "arguments"),
    [
        (HERE, Aws(), {"user": "reader", "password": "hunter2"}),
        (Account("h.example", 5439, "dev", "reader"), Aws(), {"user": "reader", "password": ""}),
        (
            HERE,
            Aws(iam=True, cluster_identifier="c", region="r", profile="p"),
            {"iam": True, "cluster_identifier": "c", "db_user": "reader", "region": "r", "profile": "p"},
        ),
        (
            HERE,
            Aws(
                iam=True,
                workgroup="w",
                account_id="1",
                access_key_id="k",
                secret_access_key="s",
                session_token="t",
            ),
            {
                **{
                    "iam": True,
                    "is_serverless": True,
                    "serverless_work_group": "w",
                    "serverless_acct_id": "1",
                },
                **{"access_key_id": "k", "secret_access_key": "s", "session_token": "t"},
            },
        ),
    ],
)
def test_the_driver_is_given(account: Account, aws: Aws, arguments: dict[str, Any]) -> None:
    cached = {"iam_disable_cache": True} if aws.iam else {}
    where = {"host": "h.example", "port": 5439, "database": "dev"}
    assert login_arguments(account, aws) == {**where, **cached, **arguments}
    known = redshift_connector.connect.__annotations__
    assert login_arguments(account, aws).keys() <= known.keys()


def test_an_account_does_not_tell_its_password() -> None:
    resource = RedshiftResource(
        host="h",
        password="hunter2",
        aws=Aws(access_key_id="hunter2", secret_access_key="hunter2", session_token="hunter2"),
    )
    assert "hunter2" not in f"{HERE!r} {HERE} {resource!r} {resource.aws} {resource._account()!r}"


def holding(monkeypatch: pytest.MonkeyPatch, text: Any) -> None:
    monkeypatch.setattr(
        login, "_read_secret", lambda aws: text if isinstance(text, str) else json.dumps(text)
    )


WHO = {"username": "u", "password": "p"}
AT = {"host": "s.example", "port": 5440, "dbname": "db"}


@pytest.mark.parametrize(
    ("account", "held", "completed"),
    [
        (Account(None, 5439, None), {**WHO, **AT}, Account("s.example", 5440, "db", "u", "p")),
        (
            Account(None, 5439, None),
            {**WHO, **AT, "port": "5440"},
            Account("s.example", 5440, "db", "u", "p"),
        ),
        (Account(None, 5441, "dev"), {**WHO, "host": "s"}, Account("s", 5441, "dev", "u", "p")),
        (Account("h", 5439, "dev"), {**WHO, **AT}, Account("h", 5439, "dev", "u", "p")),
        (Account("h", 5439, None), {**WHO, "dbName": "x"}, Account("h", 5439, "x", "u", "p")),
        (Account("h", 5439, None), {**WHO, "database": "x"}, Account("h", 5439, "x", "u", "p")),
    ],
)
def test_a_secret_completes_the_account(
    monkeypatch: pytest.MonkeyPatch, account: Account, held: dict[str, Any], completed: Account
) -> None:
    holding(monkeypatch, held)
    assert with_secret(account, Aws(secret_arn=ARN)) == completed


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ("hunter2", ["JSON"]),
        (["hunter2"], ["JSON"]),
        ({"password": "hunter2", **AT}, ["username"]),
        ({"username": "hunter2", **AT}, ["password"]),
        ({"username": "u", "password": "hunter2", "host": "h"}, ["dbname", "REDSHIFT_DATABASE"]),
        ({"username": "u", "password": "hunter2", "dbname": "d"}, ["host", "REDSHIFT_HOST"]),
        ({"username": "u", "password": "hunter2", **AT, "port": "hunter2"}, ["port"]),
    ],
)
def test_a_secret_that_will_not_do(monkeypatch: pytest.MonkeyPatch, held: Any, words: list[str]) -> None:
    holding(monkeypatch, held)
    with pytest.raises(LoginError) as refusal:
        with_secret(Account(None, 5439, None), Aws(secret_arn=ARN))
    assert all(word in str(refusal.value) for word in ["REDSHIFT_SECRET_ARN", *words])
    assert "hunter2" not in str(refusal.value)


def test_the_ca_is_set_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "before.pem")
    with pytest.raises(KeyError), trusting("ca.pem"):
        assert os.environ["SSL_CERT_FILE"] == "ca.pem"
        raise KeyError
    assert os.environ["SSL_CERT_FILE"] == "before.pem"


@pytest.mark.parametrize(
    "variables",
    [
        {"REDSHIFT_PASSWORD": "p"},
        {},  # the server may let the user in without a password
        IAM,
        {**IAM, "REDSHIFT_HOST": None},
        {**IAM, "REDSHIFT_REGION": None, "REDSHIFT_HOST": CLUSTER_HOST},
        {**IAM, **KEYS, "REDSHIFT_SESSION_TOKEN": "t"},
        {**IAM, "REDSHIFT_PROFILE": "p"},
        {**SERVERLESS, **NO_USER},
        {**SERVERLESS, **NO_USER, "REDSHIFT_HOST": None, "REDSHIFT_ACCOUNT_ID": "123456789012"},
        SECRET,
        {**SECRET, **KEYS, "REDSHIFT_HOST": None, "REDSHIFT_DATABASE": None},
        {**SECRET, "REDSHIFT_SSL": "false"},
    ],
)
def test_a_login_that_is_allowed(load: Load, variables: dict[str, str | None]) -> None:
    settings = load(**variables)
    exported = settings.environment()
    assert all(exported.get(name) == value for name, value in variables.items())
    assert load(**{**variables, **exported}) == settings


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"REDSHIFT_IAM": "true"},
            {"REDSHIFT_CLUSTER_IDENTIFIER": "REDSHIFT_WORKGROUP", "REDSHIFT_REGION": "HOST"},
        ),
        (
            {**IAM, "REDSHIFT_WORKGROUP": "wg", **NO_USER},
            {"REDSHIFT_CLUSTER_IDENTIFIER": "REDSHIFT_WORKGROUP"},
        ),
        ({**IAM, **NO_USER}, {"REDSHIFT_USER": "is not set"}),
        ({**IAM, "REDSHIFT_DATABASE": None}, {"REDSHIFT_DATABASE": "is not set"}),
        ({**IAM, "REDSHIFT_PASSWORD": "hunter2"}, {"REDSHIFT_PASSWORD": "REDSHIFT_IAM"}),
        ({**IAM, "REDSHIFT_SSL": "false"}, {"REDSHIFT_SSL": "REDSHIFT_IAM"}),
        ({**IAM, "REDSHIFT_REGION": None}, {"REDSHIFT_REGION": "REDSHIFT_HOST"}),
        ({**IAM, "REDSHIFT_REGION": None, "REDSHIFT_HOST": None}, {"REDSHIFT_REGION": "REDSHIFT_HOST"}),
        ({**IAM, "REDSHIFT_ACCOUNT_ID": "123456789012"}, {"REDSHIFT_ACCOUNT_ID": "REDSHIFT_WORKGROUP"}),
        ({**IAM, **KEYS, "REDSHIFT_PROFILE": "p"}, {"REDSHIFT_PROFILE": "REDSHIFT_ACCESS_KEY_ID"}),
        ({**IAM, "REDSHIFT_ACCESS_KEY_ID": "AKIA"}, {"REDSHIFT_SECRET_ACCESS_KEY": "REDSHIFT_ACCESS_KEY_ID"}),
        (
            {**IAM, "REDSHIFT_SECRET_ACCESS_KEY": "hunter2"},
            {"REDSHIFT_SECRET_ACCESS_KEY": "REDSHIFT_ACCESS_KEY_ID"},
        ),
        ({**IAM, "REDSHIFT_SESSION_TOKEN": "hunter2"}, {"REDSHIFT_SESSION_TOKEN": "REDSHIFT_ACCESS_KEY_ID"}),
        ({**IAM, "REDSHIFT_SECRET_ARN": ARN, **NO_USER}, {"REDSHIFT_SECRET_ARN": "REDSHIFT_IAM"}),
        (SERVERLESS, {"REDSHIFT_USER": "REDSHIFT_WORKGROUP"}),
        ({**SERVERLESS, **NO_USER, "REDSHIFT_ACCOUNT_ID": "12"}, {"REDSHIFT_ACCOUNT_ID": "12 digits"}),
        ({**SECRET, "REDSHIFT_PASSWORD": "hunter2"}, {"REDSHIFT_PASSWORD": "REDSHIFT_SECRET_ARN"}),
        ({**SECRET, "REDSHIFT_USER": "u"}, {"REDSHIFT_USER": "REDSHIFT_SECRET_ARN"}),
        ({**SECRET, "REDSHIFT_SECRET_ARN": "quper"}, {"REDSHIFT_SECRET_ARN": "arn:aws"}),
        ({**SECRET, "REDSHIFT_REGION": "eu-west-1"}, {"REDSHIFT_REGION": "REDSHIFT_IAM"}),
        ({"REDSHIFT_CLUSTER_IDENTIFIER": "c"}, {"REDSHIFT_CLUSTER_IDENTIFIER": "REDSHIFT_IAM"}),
        ({"REDSHIFT_WORKGROUP": "w"}, {"REDSHIFT_WORKGROUP": "REDSHIFT_IAM"}),
        (KEYS, dict.fromkeys(KEYS, "REDSHIFT_IAM")),
        ({"REDSHIFT_PROFILE": "p"}, {"REDSHIFT_PROFILE": "REDSHIFT_SECRET_ARN"}),
        ({"REDSHIFT_SSL_CA": "/no/such.pem"}, {"REDSHIFT_SSL_CA": "No such file"}),
        ({"REDSHIFT_SSL_CA": __file__}, {"REDSHIFT_SSL_CA": "PEM"}),
        ({"REDSHIFT_IAM": "perhaps"}, {"REDSHIFT_IAM": "boolean"}),
        (
            {**IAM, "REDSHIFT_SSL": "false", "REDSHIFT_PASSWORD": "hunter2", "SYNC_INTERVAL": "x", **NO_USER},
            dict.fromkeys(["REDSHIFT_SSL", "REDSHIFT_PASSWORD", "SYNC_INTERVAL", "REDSHIFT_USER"], ""),
        ),
    ],
)
def test_a_login_that_is_refused(load: Load, variables: dict[str, str | None], said: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as refusal:
        load(**variables)
    lines = dict(re.findall(r"^  ([A-Z_]+)(.*)$", str(refusal.value), re.MULTILINE))
    assert lines.keys() == said.keys()
    assert all(word in lines[variable] for variable, word in said.items())
    assert "hunter" not in str(refusal.value)


@pytest.fixture
def ca() -> Path:
    """A file of certificates that is on every machine."""
    return Path(redshift_connector.__file__).parent / "files" / "redshift-ca-bundle.crt"


def test_a_ca_is_known_by_its_whole_path(load: Load, ca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ca.parent)
    assert load(REDSHIFT_SSL_CA=ca.name).environment()["REDSHIFT_SSL_CA"] == str(ca)
    with pytest.raises(SettingsError, match="REDSHIFT_SSL_CA: allowed only with REDSHIFT_SSL=true"):
        load(REDSHIFT_SSL_CA=ca.name, REDSHIFT_SSL="false")


@pytest.mark.parametrize(
    "host",
    [
        *(CLUSTER_HOST, f"{CLUSTER_HOST}.cn", "c.abc.us-gov-west-1.redshift.amazonaws.com"),
        *("wg.123456789012.eu-west-1.redshift-serverless.amazonaws.com", "redshift.example", "127.0.0.1"),
    ],
)
def test_a_host_tells_the_region_if_the_driver_can_tell_it(load: Load, host: str) -> None:
    known = RedshiftProperty()
    known.put("host", host)
    known.set_region_from_host()
    variables = {**IAM, "REDSHIFT_HOST": host, "REDSHIFT_REGION": None}
    if known.region:
        assert load(**variables).redshift_host == host
    else:
        with pytest.raises(SettingsError, match="REDSHIFT_REGION"):
            load(**variables)


def test_every_secret_is_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = {"celery_backend_url", "celery_broker_url"}  # of which the password is the secret
    assert len(secrets() - urls) == 7
    for name in secrets() - urls:
        assert name.upper().endswith(SECRET_SUFFIXES)
        monkeypatch.setenv(name.upper(), f"hunter-{name}")
        assert redact(f"with hunter-{name}.") == "with ***."


def test_no_secret_of_aws_is_told(build: Build) -> None:
    definitions = build(**IAM, **KEYS, REDSHIFT_SESSION_TOKEN="hunter4")
    told = serialize_value(RepositorySnap.from_def(definitions.get_repository_def())) + repr(
        definitions.resources
    )
    assert not any(secret in told for secret in ("AKIA", "hunter"))
    assert all(variable in told for variable in [*KEYS, "REDSHIFT_SESSION_TOKEN"])


def test_the_variables_reach_the_driver(build: Build, ca: Path) -> None:
    definitions = build(**IAM, **KEYS, REDSHIFT_SSL_CA=str(ca), REDSHIFT_HOST=None)
    with dg.build_resources({"redshift": (definitions.resources or {})["redshift"]}) as resources:
        redshift = resources.redshift
        arguments = login_arguments(redshift._account(), redshift.aws)
    assert arguments == {
        **{"iam": True, "iam_disable_cache": True, "cluster_identifier": "quper", "region": "eu-west-1"},
        **{"access_key_id": "AKIA", "secret_access_key": "hunter3"},
        **{"port": 5439, "database": "dev", "db_user": "reader"},
    }
    assert redshift.ssl_ca == str(ca)
