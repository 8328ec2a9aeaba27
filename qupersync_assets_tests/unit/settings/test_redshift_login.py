"""The logins to Redshift: accepted and rejected combinations of variables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redshift_connector
from redshift_connector.redshift_property import RedshiftProperty

from qupersync_assets.settings import SettingsError
from qupersync_assets.settings.redshift_login import (
    IamClusterLogin,
    IamServerlessLogin,
    PasswordLogin,
    RedshiftSettings,
    SecretLogin,
)
from qupersync_assets_tests.unit.conftest import Load

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:quper-AbCdEf"
IAM = {"REDSHIFT_IAM": "true", "REDSHIFT_CLUSTER_IDENTIFIER": "quper", "REDSHIFT_REGION": "eu-west-1"}
SERVERLESS = {"REDSHIFT_IAM": "true", "REDSHIFT_WORKGROUP": "wg", "REDSHIFT_REGION": "eu-west-1"}
KEYS = {"REDSHIFT_ACCESS_KEY_ID": "AKIA", "REDSHIFT_SECRET_ACCESS_KEY": "hunter3"}
NO_USER: dict[str, str | None] = {"REDSHIFT_USER": None}
SECRET: dict[str, str | None] = {"REDSHIFT_SECRET_ARN": ARN, **NO_USER}
CLUSTER_HOST = "quper.abc123.eu-west-1.redshift.amazonaws.com"


@pytest.mark.parametrize(
    ("variables", "login"),
    [
        ({"REDSHIFT_PASSWORD": "p"}, PasswordLogin),
        ({}, PasswordLogin),  # some servers accept a user without a password
        (IAM, IamClusterLogin),
        ({**IAM, "REDSHIFT_HOST": None}, IamClusterLogin),
        ({**IAM, "REDSHIFT_REGION": None, "REDSHIFT_HOST": CLUSTER_HOST}, IamClusterLogin),
        ({**IAM, **KEYS, "REDSHIFT_SESSION_TOKEN": "t"}, IamClusterLogin),
        ({**IAM, "REDSHIFT_PROFILE": "p"}, IamClusterLogin),
        ({**SERVERLESS, **NO_USER}, IamServerlessLogin),
        ({**SERVERLESS, **NO_USER, "REDSHIFT_HOST": None, "REDSHIFT_ACCOUNT_ID": "123456789012"}, IamServerlessLogin),
        (SECRET, SecretLogin),
        ({**SECRET, **KEYS, "REDSHIFT_HOST": None, "REDSHIFT_DATABASE": None}, SecretLogin),
        ({**SECRET, "REDSHIFT_SSL": "false"}, SecretLogin),
        ({**SECRET, "REDSHIFT_SECRET_ARN": ARN.replace("aws:", "aws-us-gov:")}, SecretLogin),
    ],
)
def test_valid_variables_select_a_login(
    load: Load, variables: dict[str, str | None], login: type[RedshiftSettings]
) -> None:
    settings = load(**variables)
    assert type(settings.by_cluster()["default"]) is login
    exported = settings.environment()
    assert all(exported.get(name) == value for name, value in variables.items())
    assert load(**{**variables, **exported}) == settings


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"REDSHIFT_IAM": "true"}, {"REDSHIFT_CLUSTER_IDENTIFIER": "REDSHIFT_WORKGROUP", "REDSHIFT_REGION": "HOST"}),
        ({**IAM, "REDSHIFT_WORKGROUP": "wg", **NO_USER}, {"REDSHIFT_CLUSTER_IDENTIFIER": "REDSHIFT_WORKGROUP"}),
        ({**IAM, **NO_USER}, {"REDSHIFT_USER": "is not set"}),
        ({**IAM, "REDSHIFT_DATABASE": None}, {"REDSHIFT_DATABASE": "is not set"}),
        ({**IAM, "REDSHIFT_PASSWORD": "hunter2"}, {"REDSHIFT_PASSWORD": "REDSHIFT_IAM"}),
        ({**IAM, "REDSHIFT_SSL": "false"}, {"REDSHIFT_SSL": "REDSHIFT_IAM"}),
        ({**IAM, "REDSHIFT_REGION": None}, {"REDSHIFT_REGION": "REDSHIFT_HOST"}),
        ({**IAM, "REDSHIFT_REGION": None, "REDSHIFT_HOST": None}, {"REDSHIFT_REGION": "REDSHIFT_HOST"}),
        ({**IAM, "REDSHIFT_ACCOUNT_ID": "123456789012"}, {"REDSHIFT_ACCOUNT_ID": "REDSHIFT_WORKGROUP"}),
        ({**IAM, **KEYS, "REDSHIFT_PROFILE": "p"}, {"REDSHIFT_PROFILE": "REDSHIFT_ACCESS_KEY_ID"}),
        ({**IAM, "REDSHIFT_ACCESS_KEY_ID": "AKIA"}, {"REDSHIFT_SECRET_ACCESS_KEY": "REDSHIFT_ACCESS_KEY_ID"}),
        ({**IAM, "REDSHIFT_SECRET_ACCESS_KEY": "hunter2"}, {"REDSHIFT_SECRET_ACCESS_KEY": "REDSHIFT_ACCESS_KEY_ID"}),
        ({**IAM, "REDSHIFT_SESSION_TOKEN": "hunter2"}, {"REDSHIFT_SESSION_TOKEN": "REDSHIFT_ACCESS_KEY_ID"}),
        ({**IAM, "REDSHIFT_SECRET_ARN": ARN, **NO_USER}, {"REDSHIFT_SECRET_ARN": "REDSHIFT_IAM"}),
        (SERVERLESS, {"REDSHIFT_USER": "REDSHIFT_WORKGROUP"}),
        ({**SERVERLESS, **NO_USER, "REDSHIFT_ACCOUNT_ID": "12"}, {"REDSHIFT_ACCOUNT_ID": "12 digits"}),
        ({**SERVERLESS, **NO_USER, "REDSHIFT_ACCOUNT_ID": 13 * "1"}, {"REDSHIFT_ACCOUNT_ID": "12 digits"}),
        ({**SECRET, "REDSHIFT_PASSWORD": "hunter2"}, {"REDSHIFT_PASSWORD": "REDSHIFT_SECRET_ARN"}),
        ({**SECRET, "REDSHIFT_USER": "u"}, {"REDSHIFT_USER": "REDSHIFT_SECRET_ARN"}),
        ({**SECRET, "REDSHIFT_SECRET_ARN": "quper"}, {"REDSHIFT_SECRET_ARN": "arn:aws"}),
        ({**SECRET, "REDSHIFT_SECRET_ARN": ARN.replace("secretsmanager", "kms")}, {"REDSHIFT_SECRET_ARN": "arn:aws"}),
        ({**SECRET, "REDSHIFT_REGION": "eu-west-1"}, {"REDSHIFT_REGION": "REDSHIFT_IAM"}),
        ({"REDSHIFT_CLUSTER_IDENTIFIER": "c"}, {"REDSHIFT_CLUSTER_IDENTIFIER": "REDSHIFT_IAM"}),
        ({"REDSHIFT_WORKGROUP": "w"}, {"REDSHIFT_WORKGROUP": "REDSHIFT_IAM"}),
        (KEYS, dict.fromkeys(KEYS, "REDSHIFT_IAM")),
        ({"REDSHIFT_PROFILE": "p"}, {"REDSHIFT_PROFILE": "REDSHIFT_SECRET_ARN"}),
        ({"REDSHIFT_SSL_CA": "/no/such.pem"}, {"REDSHIFT_SSL_CA": "No such file"}),
        ({"REDSHIFT_SSL_CA": __file__}, {"REDSHIFT_SSL_CA": "PEM"}),
        ({"REDSHIFT_IAM": "perhaps"}, {"REDSHIFT_IAM": "true or false"}),
        (
            {"REDSHIFT_PORT": "0", "REDSHIFT_CONNECT_TIMEOUT": "0"},
            {"REDSHIFT_PORT": "1", "REDSHIFT_CONNECT_TIMEOUT": "1"},
        ),
        (
            {"REDSHIFT_PORT": "65536", "REDSHIFT_PRICE_PER_HOUR": "-1"},
            {"REDSHIFT_PORT": "", "REDSHIFT_PRICE_PER_HOUR": "0"},
        ),
        (
            {"REDSHIFT_SYNC_INTERVAL": "9", "REDSHIFT_QUIET_HOURS": "25:00"},
            {"REDSHIFT_SYNC_INTERVAL": "10", "REDSHIFT_QUIET_HOURS": ""},
        ),
        (
            {**IAM, "REDSHIFT_SSL": "false", "REDSHIFT_PASSWORD": "hunter2", "SYNC_INTERVAL": "x", **NO_USER},
            dict.fromkeys(["REDSHIFT_SSL", "REDSHIFT_PASSWORD", "SYNC_INTERVAL", "REDSHIFT_USER"], ""),
        ),
    ],
)
def test_invalid_variables_of_a_login_are_reported(
    load: Load, variables: dict[str, str | None], expected: dict[str, str]
) -> None:
    with pytest.raises(SettingsError) as refusal:
        load(**variables)
    lines = dict(re.findall(r"^  ([A-Z_]+)(.*)$", str(refusal.value), re.MULTILINE))
    assert lines.keys() == expected.keys()
    assert all(word in lines[variable] for variable, word in expected.items())
    assert "hunter" not in str(refusal.value)


@pytest.mark.parametrize(
    "host",
    [
        f"{CLUSTER_HOST}:5439/dev",
        f"{CLUSTER_HOST}:5439",
        f"jdbc:redshift://{CLUSTER_HOST}:5439/dev?user=u&password=hunter2",
        f"jdbc:redshift:iam://{CLUSTER_HOST}/dev",
        f"https://{CLUSTER_HOST}",
        "a.example,b.example",
        "[::1]",
        "2001:db8::5",
    ],
)
def test_an_endpoint_that_is_no_host_is_explained(load: Load, host: str) -> None:
    with pytest.raises(SettingsError, match=r"REDSHIFT_HOST: .*REDSHIFT_PORT and REDSHIFT_DATABASE") as refusal:
        load(REDSHIFT_HOST=host)
    assert "hunter" not in str(refusal.value)
    with pytest.raises(SettingsError, match=r"REDSHIFT_A_HOST: .*REDSHIFT_A_PORT and REDSHIFT_A_DATABASE"):
        load(REDSHIFT_HOST=None, CLUSTERS="a", REDSHIFT_A_HOST=host)


def test_white_space_around_a_variable_is_removed(load: Load) -> None:
    login = load(REDSHIFT_HOST=" h.example \n", REDSHIFT_USER="u\n", REDSHIFT_PASSWORD=" p \n").by_cluster()["default"]
    assert isinstance(login, PasswordLogin) and login.password is not None
    assert (login.host, login.user, login.password.get_secret_value()) == ("h.example", "u", " p ")


@pytest.fixture
def ca() -> Path:
    """A file of certificates that is on every machine."""
    return Path(redshift_connector.__file__).parent / "files" / "redshift-ca-bundle.crt"


def test_a_ca_file_becomes_an_absolute_path(load: Load, ca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_region_is_optional_if_the_driver_finds_it_in_the_host(load: Load, host: str) -> None:
    known = RedshiftProperty()
    known.put("host", host)
    known.set_region_from_host()
    variables = {**IAM, "REDSHIFT_HOST": host, "REDSHIFT_REGION": None}
    if known.region:
        assert load(**variables).by_cluster()["default"].host == host
    else:
        with pytest.raises(SettingsError, match="REDSHIFT_REGION"):
            load(**variables)
