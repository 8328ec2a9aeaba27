"""Each login, through the real driver, boto3 and a local AWS server, into the sandbox with TLS."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import dagster as dg
import pytest

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sandbox.gateway.tls import Authority, TlsFiles
from qupersync_assets.settings.redshift_login import (
    IamClusterLogin,
    IamServerlessLogin,
    PasswordLogin,
    RedshiftSettings,
    SecretLogin,
)
from qupersync_assets_tests.support.aws_server import ROLE, AwsServer, use
from qupersync_assets_tests.support.integration import Materialize, Query, pages_of

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:quper-AbCdEf"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


Serve = Callable[[TlsFiles | None], Gateway]


@pytest.fixture
def serve(sandbox: Sandbox) -> Iterator[Serve]:
    """Start a gateway to the sandbox with the given certificate."""
    started: list[Gateway] = []

    def start(tls: TlsFiles | None) -> Gateway:
        started.append(Gateway((sandbox.server.host, sandbox.server.port), tls=tls))
        started[-1].start()
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture
def gateway(serve: Serve, authority: Authority) -> Gateway:
    return serve(authority.server(["127.0.0.1"]))


@pytest.fixture
def aws(gateway: Gateway, source: Query, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AwsServer]:
    """A server that boto3 uses as AWS."""
    with AwsServer(source, gateway) as server:
        use(server, monkeypatch, tmp_path)
        yield server


Connect = Callable[..., RedshiftResource]


@pytest.fixture
def connect(gateway: Gateway, authority: Authority) -> Connect:
    """Build a resource for the gateway, with TLS and the given login; its fields override the usual ones."""

    def make(login: type[RedshiftSettings], **fields: Any) -> RedshiftResource:
        usual = {"host": gateway.host, "port": gateway.port, "database": "redshift", "ssl_ca": authority.ca}
        return RedshiftResource(login(**{**usual, **LOGIN_FIELDS[login], **fields}))

    return make


LOGIN_FIELDS: dict[type[RedshiftSettings], dict[str, Any]] = {
    PasswordLogin: {"user": "qupersync_reader"},
    IamClusterLogin: {"user": "qupersync_reader", "cluster_identifier": "quper", "region": "eu-west-1"},
    IamServerlessLogin: {"workgroup": "quper-wg", "region": "eu-west-1"},
    SecretLogin: {"secret_arn": ARN},
}


def user(redshift: RedshiftResource) -> str:
    name: str = next(pages_of(redshift, "SELECT current_user::text AS name", 1)).rows[0][0]
    return name


def refusal(redshift: RedshiftResource) -> SyncError:
    with pytest.raises(SyncError) as refused:
        user(redshift)
    return refused.value


@pytest.mark.parametrize(
    ("credentials", "key", "token"),
    [
        ({}, "MACHINE", None),
        ({"profile": "quper"}, "PROFILE", None),
        ({"access_key_id": "KEY", "secret_access_key": "s"}, "KEY", None),
        ({"access_key_id": "KEY", "secret_access_key": "s", "session_token": "T"}, "KEY", "T"),
    ],
)
@pytest.mark.parametrize("login", [IamClusterLogin, IamServerlessLogin, SecretLogin])
def test_aws_receives_the_configured_credentials(
    aws: AwsServer,
    connect: Connect,
    environment: dict[str, str],
    login: type[RedshiftSettings],
    credentials: dict[str, str],
    key: str,
    token: str | None,
) -> None:
    aws.secret = {"username": "qupersync_reader", "password": environment["REDSHIFT_PASSWORD"]}
    assert user(connect(login, **credentials)) == ("qupersync_reader" if login is SecretLogin else ROLE)
    for _, _, headers in aws.calls:
        assert f"Credential={key}/" in headers["Authorization"] and "/eu-west-1/" in headers["Authorization"]
        assert headers.get("X-Amz-Security-Token") == token


def test_credentials_of_a_cluster_are_for_the_user(aws: AwsServer, connect: Connect) -> None:
    user(connect(IamClusterLogin))
    operation, asked, _ = aws.calls[-1]
    assert operation == "GetClusterCredentials"
    assert (asked["ClusterIdentifier"], asked["DbUser"], asked["DbName"]) == ("quper", "qupersync_reader", "redshift")
    assert asked["AutoCreate"] == "false"


def test_credentials_of_serverless_are_for_the_workgroup(aws: AwsServer, connect: Connect) -> None:
    user(connect(IamServerlessLogin, account_id="123456789012"))
    assert [call[:2] for call in aws.calls] == [("GetCredentials", {"dbName": "redshift", "workgroupName": "quper-wg"})]


@pytest.mark.parametrize(
    ("login", "asked"), [(IamClusterLogin, "DescribeClusters"), (IamServerlessLogin, "GetWorkgroup")]
)
def test_the_driver_finds_the_host(aws: AwsServer, connect: Connect, login: type[RedshiftSettings], asked: str) -> None:
    assert user(connect(login, host=None, port=5439)) == ROLE
    assert aws.operations()[-1] == asked


def test_each_connection_gets_new_credentials(aws: AwsServer, connect: Connect, source: Query) -> None:
    redshift = connect(IamClusterLogin)
    assert user(redshift) == user(redshift) == ROLE
    assert len(aws.passwords) == 1  # pooled
    # As a server does when credentials expire; the old password is not valid any more.
    source("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [ROLE])
    assert user(redshift) == ROLE
    assert len(set(aws.passwords)) == 2
    with redshift.session(), redshift.session():
        assert len(set(aws.passwords)) == 3


def test_a_secret_contains_the_endpoint_and_is_read_for_each_connection(
    aws: AwsServer, connect: Connect, gateway: Gateway, source: Query
) -> None:
    redshift = connect(SecretLogin, host=None, port=5439, database=None)
    at = {"host": gateway.host, "port": gateway.port, "dbName": "redshift", "username": ROLE}
    aws.secret = {**at, "password": aws.password()}
    assert user(redshift) == ROLE
    aws.secret = {**at, "password": aws.password()}  # rotated
    source("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [ROLE])
    assert user(redshift) == ROLE
    assert aws.operations() == ["GetSecretValue"] * 2


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", ErrorClass.FATAL),
        (404, "ClusterNotFound", ErrorClass.FATAL),
        (400, "Throttling", ErrorClass.TRANSIENT),
        (503, "ServiceUnavailable", ErrorClass.TRANSIENT),
    ],
)
def test_refusal_by_aws_names_the_variable(
    aws: AwsServer, connect: Connect, status: int, code: str, expected: ErrorClass
) -> None:
    aws.failure = (status, code)
    error = refusal(connect(IamClusterLogin))
    assert error.error_class is expected
    assert code in str(error) and "REDSHIFT_CLUSTER_IDENTIFIER" in str(error)
    error = refusal(connect(SecretLogin))
    assert error.error_class is expected
    assert code in str(error) and "REDSHIFT_SECRET_ARN" in str(error)


def test_unreachable_aws_is_reported(aws: AwsServer, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refusal(connect(IamClusterLogin, profile="unknown"))
    assert error.error_class is ErrorClass.FATAL and "unknown" in str(error)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    error = refusal(connect(IamClusterLogin))
    assert error.error_class is ErrorClass.TRANSIENT and "127.0.0.1:1" in str(error)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    error = refusal(connect(IamClusterLogin))
    assert error.error_class is ErrorClass.FATAL and "credentials" in str(error)


def test_refused_password_from_aws_names_the_variable(aws: AwsServer, connect: Connect) -> None:
    aws.good = False
    error = str(refusal(connect(IamClusterLogin)))
    assert "28P01" in error and "REDSHIFT_CLUSTER_IDENTIFIER" in error and "REDSHIFT_PASSWORD" not in error
    assert "something else" not in error


def test_a_sync_with_iam_shows_no_secret(
    aws: AwsServer,
    gateway: Gateway,
    authority: Authority,
    materialize: Materialize,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secrets = {"SECRET_ACCESS_KEY": token_hex(), "SESSION_TOKEN": token_hex(), "ACCESS_KEY_ID": token_hex()}
    variables = {
        **{"PORT": str(gateway.port), "SSL": "true", "SSL_CA": str(authority.ca), **secrets},
        **{"IAM": "true", "CLUSTER_IDENTIFIER": "quper", "REGION": "eu-west-1"},
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"REDSHIFT_{name}", value)
    monkeypatch.delenv("REDSHIFT_PASSWORD")
    result = materialize("node_details")
    assert result.success
    aws.failure = (403, "AccessDenied")
    refused = materialize("node_details")
    assert not refused.success
    error = "\n".join(str(e) for r in (result, refused) for e in instance.all_logs(r.run_id))
    assert "AccessDenied" in error
    assert not any(secret in error for secret in [*secrets.values(), *aws.passwords])


def test_a_private_ca_is_trusted_only_while_connecting(
    connect: Connect, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, gateway: Gateway
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/another/ca.pem")
    password = environment["REDSHIFT_PASSWORD"]
    assert user(connect(PasswordLogin, password=password)) == "qupersync_reader"
    assert gateway.received.tls_handshakes == 1
    assert os.environ["SSL_CERT_FILE"] == "/another/ca.pem"
    monkeypatch.delenv("SSL_CERT_FILE")
    assert user(connect(PasswordLogin, password=password)) == "qupersync_reader"
    assert "SSL_CERT_FILE" not in os.environ
    assert "REDSHIFT_SSL_CA" in str(refusal(connect(PasswordLogin, password=password, ssl_ca=None)))


@pytest.mark.parametrize(
    ("names", "days", "variable"),
    [(["elsewhere.example"], 30, "REDSHIFT_HOST"), (["127.0.0.1"], -1, "certificate is not valid today")],
)
def test_a_certificate_is_verified(
    connect: Connect, serve: Serve, authority: Authority, names: list[str], days: int, variable: str
) -> None:
    gateway = serve(authority.server(names, file_name="other", valid_for=timedelta(days=days)))
    error = refusal(connect(PasswordLogin, port=gateway.port))
    assert error.error_class is ErrorClass.FATAL and variable in str(error)
    assert gateway.received.passwords == 0


def test_another_name_is_allowed_with_verify_ca(
    connect: Connect, serve: Serve, authority: Authority, environment: dict[str, str]
) -> None:
    gateway = serve(authority.server(["elsewhere.example"], file_name="other"))
    fields = {"port": gateway.port, "password": environment["REDSHIFT_PASSWORD"]}
    assert user(connect(PasswordLogin, sslmode="verify-ca", **fields)) == "qupersync_reader"


def test_an_unknown_ca_and_a_server_without_tls_are_refused(connect: Connect, serve: Serve, tmp_path: Path) -> None:
    error = str(refusal(connect(PasswordLogin, ssl_ca=Authority(tmp_path).ca)))
    assert "REDSHIFT_SSL_CA" in error
    plain = serve(None)
    error = str(refusal(connect(PasswordLogin, port=plain.port)))
    assert "REDSHIFT_PORT" in error and "REDSHIFT_SSL" in error
    assert plain.received.startups == 0
