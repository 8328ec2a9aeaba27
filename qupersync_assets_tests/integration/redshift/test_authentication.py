"""Every login, through the real driver and boto3 up to an AWS on this machine, into the sandbox with TLS."""

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
from qupersync_assets.redshift.authentication import Aws
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sandbox.gateway.tls import Authority, TlsFiles
from qupersync_assets_tests.integration.conftest import Query, Sync, pages_of
from qupersync_assets_tests.support.aws_server import ROLE, AwsServer, use

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:quper-AbCdEf"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


Serve = Callable[[TlsFiles | None], Gateway]


@pytest.fixture
def serve(sandbox: Sandbox) -> Iterator[Serve]:
    """Starts a gateway to the sandbox that has the given certificate."""
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
def aws(
    gateway: Gateway, source: Query, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[AwsServer]:
    """What boto3 takes for AWS."""
    with AwsServer(source, gateway) as server:
        use(server, monkeypatch, tmp_path)
        yield server


Connect = Callable[..., RedshiftResource]


@pytest.fixture
def connect(gateway: Gateway, authority: Authority) -> Connect:
    """A resource for the gateway with TLS; what is given goes before."""

    def make(**fields: Any) -> RedshiftResource:
        usual = {
            "host": gateway.host,
            "port": gateway.port,
            "database": "redshift",
            "ssl_ca": str(authority.ca),
        }
        return RedshiftResource(**{**usual, **fields})

    return make


def cluster(**fields: Any) -> Aws:
    return Aws(iam=True, cluster_identifier="quper", region="eu-west-1", **fields)


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
@pytest.mark.parametrize("kind", ["cluster", "serverless", "secret"])
def test_aws_is_asked_with_the_credentials_that_are_set(
    aws: AwsServer,
    connect: Connect,
    environment: dict[str, str],
    kind: str,
    credentials: dict[str, Any],
    key: str,
    token: str | None,
) -> None:
    config = {
        "cluster": cluster(**credentials),
        "serverless": Aws(iam=True, workgroup="quper-wg", region="eu-west-1", **credentials),
        "secret": Aws(secret_arn=ARN, **credentials),
    }[kind]
    aws.secret = {"username": "qupersync_reader", "password": environment["REDSHIFT_PASSWORD"]}
    name = user(connect(aws=config, user="qupersync_reader" if kind == "cluster" else None))
    assert name == ("qupersync_reader" if kind == "secret" else ROLE)
    for _, _, headers in aws.calls:
        assert f"Credential={key}/" in headers["Authorization"] and "/eu-west-1/" in headers["Authorization"]
        assert headers.get("X-Amz-Security-Token") == token


def test_a_cluster_is_asked_for_a_user(aws: AwsServer, connect: Connect) -> None:
    user(connect(aws=cluster(), user="qupersync_reader"))
    operation, asked, _ = aws.calls[-1]
    assert operation == "GetClusterCredentials"
    assert (asked["ClusterIdentifier"], asked["DbUser"], asked["DbName"]) == (
        "quper",
        "qupersync_reader",
        "redshift",
    )
    assert asked["AutoCreate"] == "false"


def test_a_workgroup_is_asked_for(aws: AwsServer, connect: Connect) -> None:
    user(connect(aws=Aws(iam=True, workgroup="quper-wg", account_id="123456789012", region="eu-west-1")))
    assert [call[:2] for call in aws.calls] == [
        ("GetCredentials", {"dbName": "redshift", "workgroupName": "quper-wg"})
    ]


@pytest.mark.parametrize(
    ("config", "name", "asked"),
    [
        (cluster(), "qupersync_reader", "DescribeClusters"),
        (Aws(iam=True, workgroup="quper-wg", region="eu-west-1"), None, "GetWorkgroup"),
    ],
)
def test_the_driver_finds_the_host(
    aws: AwsServer, connect: Connect, config: Aws, name: str | None, asked: str
) -> None:
    assert user(connect(aws=config, host=None, port=5439, user=name)) == ROLE
    assert aws.operations()[-1] == asked


def test_each_connection_has_credentials_of_its_own(aws: AwsServer, connect: Connect, source: Query) -> None:
    redshift = connect(aws=cluster(), user="qupersync_reader")
    assert user(redshift) == user(redshift) == ROLE
    assert len(aws.passwords) == 1  # pooled
    # As a server does whose credentials have expired; the old password is of no use from here on.
    source("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [ROLE])
    assert user(redshift) == ROLE
    assert len(set(aws.passwords)) == 2
    with redshift.session(), redshift.session():
        assert len(set(aws.passwords)) == 3


def test_a_secret_tells_where_to_log_in_and_is_read_anew(
    aws: AwsServer, connect: Connect, gateway: Gateway, source: Query
) -> None:
    redshift = connect(aws=Aws(secret_arn=ARN), host=None, port=5439, database=None)
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
def test_aws_refuses(aws: AwsServer, connect: Connect, status: int, code: str, expected: ErrorClass) -> None:
    aws.failure = (status, code)
    told = refusal(connect(aws=cluster(), user="qupersync_reader"))
    assert told.error_class is expected
    assert code in str(told) and "REDSHIFT_CLUSTER_IDENTIFIER" in str(told)
    told = refusal(connect(aws=Aws(secret_arn=ARN)))
    assert told.error_class is expected
    assert code in str(told) and "REDSHIFT_SECRET_ARN" in str(told)


def test_aws_cannot_be_asked(aws: AwsServer, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    told = refusal(connect(aws=cluster(profile="nobody"), user="qupersync_reader"))
    assert told.error_class is ErrorClass.FATAL and "nobody" in str(told)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    told = refusal(connect(aws=cluster(), user="qupersync_reader"))
    assert told.error_class is ErrorClass.TRANSIENT and "127.0.0.1:1" in str(told)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    told = refusal(connect(aws=cluster(), user="qupersync_reader"))
    assert told.error_class is ErrorClass.FATAL and "credentials" in str(told)


def test_redshift_refuses_the_password_from_aws(aws: AwsServer, connect: Connect) -> None:
    aws.good = False
    told = str(refusal(connect(aws=cluster(), user="qupersync_reader")))
    assert "28P01" in told and "REDSHIFT_CLUSTER_IDENTIFIER" in told and "REDSHIFT_PASSWORD" not in told
    assert "something else" not in told


def test_a_sync_with_iam_shows_no_secret(
    aws: AwsServer,
    gateway: Gateway,
    authority: Authority,
    sync: Sync,
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
    result = sync("node_details")
    assert result.success
    aws.failure = (403, "AccessDenied")
    refused = sync("node_details")
    assert not refused.success
    told = "\n".join(str(e) for r in (result, refused) for e in instance.all_logs(r.run_id))
    assert "AccessDenied" in told
    assert not any(secret in told for secret in [*secrets.values(), *aws.passwords])


def test_a_private_ca_is_trusted_only_while_connecting(
    connect: Connect, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, gateway: Gateway
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/somebody/elses.pem")
    login = {"user": "qupersync_reader", "password": environment["REDSHIFT_PASSWORD"]}
    assert user(connect(**login)) == "qupersync_reader"
    assert gateway.received.tls_handshakes == 1
    assert os.environ["SSL_CERT_FILE"] == "/somebody/elses.pem"
    monkeypatch.delenv("SSL_CERT_FILE")
    assert user(connect(**login)) == "qupersync_reader"
    assert "SSL_CERT_FILE" not in os.environ
    assert "REDSHIFT_SSL_CA" in str(refusal(connect(**login, ssl_ca=None)))


@pytest.mark.parametrize(
    ("names", "days", "variable"),
    [(["elsewhere.example"], 30, "REDSHIFT_HOST"), (["127.0.0.1"], -1, "certificate has to be renewed")],
)
def test_a_certificate_is_verified(
    connect: Connect, serve: Serve, authority: Authority, names: list[str], days: int, variable: str
) -> None:
    gateway = serve(authority.server(names, file_name="other", valid_for=timedelta(days=days)))
    told = refusal(connect(port=gateway.port, user="u"))
    assert told.error_class is ErrorClass.FATAL and variable in str(told)
    assert gateway.received.passwords == 0


def test_another_name_is_allowed_with_verify_ca(
    connect: Connect, serve: Serve, authority: Authority, environment: dict[str, str]
) -> None:
    gateway = serve(authority.server(["elsewhere.example"], file_name="other"))
    login = {"user": "qupersync_reader", "password": environment["REDSHIFT_PASSWORD"]}
    assert user(connect(port=gateway.port, sslmode="verify-ca", **login)) == "qupersync_reader"


def test_a_ca_of_somebody_else_and_a_server_without_tls(
    connect: Connect, serve: Serve, tmp_path: Path
) -> None:
    told = str(refusal(connect(ssl_ca=str(Authority(tmp_path).ca), user="u")))
    assert "REDSHIFT_SSL_CA" in told
    plain = serve(None)
    told = str(refusal(connect(port=plain.port, user="u")))
    assert "REDSHIFT_PORT" in told and "REDSHIFT_SSL" in told
    assert plain.received.startups == 0
