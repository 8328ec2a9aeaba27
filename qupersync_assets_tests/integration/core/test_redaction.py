"""No secret is written anywhere, also not by errors that quote it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
import redshift_connector
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster_shared.serdes import serialize_value
from typer.testing import CliRunner

from qupersync_assets.cli import app
from qupersync_assets.core.errors import SyncError
from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.retention_job import MAINTENANCE_NAME
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sandbox.gateway.tls import Authority
from qupersync_assets.settings import Settings
from qupersync_assets.settings.redshift_login import RedshiftSettings
from qupersync_assets_tests.support.aws_server import AwsServer, use
from qupersync_assets_tests.support.echo_server import Parrot
from qupersync_assets_tests.support.escaped_secrets import TRICKY, Secrets, tricky_passwords
from qupersync_assets_tests.support.integration import Materialize, Query


@pytest.fixture
def made() -> Secrets:
    return Secrets()


@pytest.fixture
def passwords(
    sandbox: Sandbox, environment: dict[str, str], made: Secrets, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Both databases have tricky passwords."""
    with tricky_passwords(sandbox, made) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield


@pytest.fixture
def parrot() -> Iterator[Parrot]:
    with Parrot() as running:
        yield running


CollectOutput = Callable[[], str]


@pytest.fixture
def collect_output(
    materialize: Materialize,
    instance: dg.DagsterInstance,
    target: Query,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> CollectOutput:
    """Run syncs, maintenance, a sensor tick and the doctor; return all output and logs."""

    def run() -> str:
        definitions = build_definitions(Settings.load())
        runs = [materialize("node_details", "applications")]
        maintenance = definitions.resolve_job_def(MAINTENANCE_NAME)
        runs.append(maintenance.execute_in_process(instance=instance, raise_on_error=False))
        texts = [serialize_value(entry) for r in runs for entry in instance.all_logs(r.run_id)]
        texts += [str(entry) for r in runs for entry in instance.all_logs(r.run_id)]
        texts.append(_tick(definitions, instance))
        monkeypatch.chdir(tmp_path)
        for form in ([], ["--json"]):
            done = CliRunner().invoke(app, ["doctor", *form])
            texts += [done.output, *traceback.format_exception(done.exception)]
        for table in ("sync_logs", "skipped_rows"):
            if target(f"SELECT to_regclass('quper.{table}') IS NOT NULL") == [(True,)]:
                texts += [text for (text,) in target(f"SELECT t::text FROM quper.{table} t")]
        return "\n".join([*texts, *capfd.readouterr()])

    return run


def _tick(definitions: dg.Definitions, instance: dg.DagsterInstance) -> str:
    """Return the text that Dagster stores for a tick of the sensor that closes stale rows."""
    sensor = definitions.get_repository_def().get_sensor_def("qupersync_close_stale_rows")
    with dg.build_sensor_context(instance=instance, definitions=definitions) as context:
        try:
            return str(sensor.evaluate_tick(context))
        except Exception:
            return serialize_value(serializable_error_info_from_exc_info(sys.exc_info()))


def test_tricky_passwords_work_and_are_not_written(
    passwords: None, collect_output: CollectOutput, made: Secrets
) -> None:
    text = collect_output()
    assert "No problems found" in text and "STEP_SUCCESS" in text and "STEP_FAILURE" not in text
    assert not made.in_(text)


# Variables that are set, and a word of the expected error.
FAILURES = {
    "wrong password, source": ({"REDSHIFT_PASSWORD": None}, "28P01"),
    "wrong password, target": ({"POSTGRES_PASSWORD": None}, "28P01"),
    "refused, source": ({"REDSHIFT_PORT": "1"}, "refused"),
    "refused, target": ({"POSTGRES_PORT": "1"}, "refused"),
    "unknown host, source": ({"REDSHIFT_HOST": "no-such-host.invalid"}, "no-such-host"),
    "unknown host, target": ({"POSTGRES_HOST": "no-such-host.invalid"}, "no-such-host"),
    "no TLS, source": ({"REDSHIFT_SSL": "true"}, "does not support TLS"),
    "no TLS, target": ({"POSTGRES_SSLMODE": "require"}, "does not support SSL"),
    "no database, source": ({"REDSHIFT_DATABASE": "nowhere"}, "3D000"),
}


@pytest.mark.parametrize(("variables", "word"), FAILURES.values(), ids=FAILURES)
def test_a_failed_login_shows_no_secret(
    passwords: None,
    collect_output: CollectOutput,
    made: Secrets,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str | None],
    word: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value or made.make())
    text = collect_output()
    assert word in text and "STEP_FAILURE" in text
    assert not made.in_(text)


@pytest.mark.parametrize("side", ["REDSHIFT", "POSTGRES"])
def test_a_password_repeated_by_a_server_is_redacted(
    passwords: None,
    collect_output: CollectOutput,
    made: Secrets,
    parrot: Parrot,
    monkeypatch: pytest.MonkeyPatch,
    side: str,
) -> None:
    monkeypatch.setenv(f"{side}_PORT", str(parrot.port))
    text = collect_output()
    assert "no login with the password '***'" in text
    assert not made.in_(text)


@pytest.mark.parametrize("driver", [redshift_connector, psycopg2], ids=lambda driver: driver.__name__)
@pytest.mark.parametrize("kind", [RuntimeError, "OperationalError"])
def test_an_error_that_quotes_the_arguments_of_the_driver_is_redacted(
    passwords: None,
    collect_output: CollectOutput,
    made: Secrets,
    monkeypatch: pytest.MonkeyPatch,
    driver: Any,
    kind: Any,
) -> None:
    error = getattr(driver, kind) if isinstance(kind, str) else kind

    def crash(*arguments: Any, **named: Any) -> Any:
        try:
            raise KeyError(f"{named}")
        except KeyError as first:
            url = f"postgresql://{named['user']}:{named['password']}@host/db"
            raise error(f"cannot connect with {arguments} {named} {url}") from first

    with monkeypatch.context() as patch:
        query = psycopg2.connect  # for the queries of this test
        patch.setattr(driver, "connect", crash)
        if driver is psycopg2:
            patch.setattr("qupersync_assets.sandbox.Sandbox._connect", lambda s, d: query(s.server.dsn(d)))
        text = collect_output()
    assert "cannot connect with" in text and "STEP_FAILURE" in text and "***" in text
    assert not made.in_(text)


@pytest.mark.parametrize("between", [TRICKY, "/+=", "\n"], ids=["tricky", "plain", "line"])
def test_keys_and_passwords_of_aws_are_redacted(
    sandbox: Sandbox,
    source: Query,
    target: Query,
    collect_output: CollectOutput,
    made: Secrets,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    between: str,
) -> None:
    authority = Authority(tmp_path / "ca")
    upstream = (sandbox.server.host, sandbox.server.port)
    keys = {"ACCESS_KEY_ID": made.make("AKIA"), "SECRET_ACCESS_KEY": made.make(), "SESSION_TOKEN": made.make(between)}
    variables = {
        **{"SSL": "true", "SSL_CA": str(authority.ca), "REGION": "eu-west-1", "IAM": "true"},
        **{"CLUSTER_IDENTIFIER": "quper", **keys},
    }
    with Gateway(upstream, tls=authority.server(["127.0.0.1"])) as gateway, AwsServer(source, gateway) as aws:
        use(aws, monkeypatch, tmp_path)
        monkeypatch.delenv("REDSHIFT_PASSWORD")
        for name, value in {**variables, "PORT": str(gateway.port)}.items():
            monkeypatch.setenv(f"REDSHIFT_{name}", value)
        text = collect_output()
        # http.client refuses a line break in a header, with an error that quotes the value.
        assert ("STEP_FAILURE" in text) == (between == "\n")
        aws.failure = (403, "InvalidClientTokenId")
        aws.message = f"{keys} are not valid"
        refused = collect_output()
    assert ("are not valid" in refused) == (between != "\n")
    for written in (text, refused):
        assert not made.in_(written)
        assert not any(password in written for password in aws.passwords)


@pytest.mark.parametrize(
    "login",
    [{"CLUSTER_IDENTIFIER": "quper"}, {"WORKGROUP": "quper", "ACCOUNT_ID": "123456789012"}],
    ids=["cluster", "serverless"],
)
def test_a_temporary_password_and_temporary_keys_of_iam_are_redacted(
    sandbox: Sandbox,
    source: Query,
    made: Secrets,
    parrot: Parrot,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    login: dict[str, str],
) -> None:
    """The password is in no variable, and the keys are those of a profile."""
    authority = Authority(tmp_path / "ca")
    upstream = (sandbox.server.host, sandbox.server.port)
    with Gateway(upstream, tls=authority.server(["127.0.0.1"])) as gateway, AwsServer(source, gateway) as aws:
        gateway.upstream = ("127.0.0.1", parrot.port)
        use(aws, monkeypatch, tmp_path)
        key, secret, token = made.make(""), made.make("/+="), made.make("/+=")
        (tmp_path / "credentials").write_text(
            f"[quper]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\naws_session_token = {token}\n"
        )
        monkeypatch.delenv("REDSHIFT_PASSWORD")
        variables = {
            "SSL": "true",
            "SSL_CA": str(authority.ca),
            "REGION": "eu-west-1",
            "IAM": "true",
            "PROFILE": "quper",
        }
        if "WORKGROUP" in login:
            monkeypatch.delenv("REDSHIFT_USER")
        for name, value in {**variables, **login, "PORT": str(gateway.port)}.items():
            monkeypatch.setenv(f"REDSHIFT_{name}", value)
        (redshift,) = Settings.load().by_cluster().values()
        text = _failed_login(redshift)
        aws.failure, aws.message = (403, "InvalidClientTokenId"), f"{key} {secret} {token} are not valid"
        refused = _failed_login(redshift)
        assert aws.passwords and not any(password in text for password in aws.passwords)
    assert "no login with the password '***'" in text
    assert "*** *** *** are not valid" in refused
    assert not made.in_(text) and not made.in_(refused)


def _failed_login(settings: RedshiftSettings) -> str:
    """Return the traceback of a session that is refused, with its causes."""
    with pytest.raises(SyncError) as refusal, RedshiftResource(settings).session():
        pass
    return "".join(traceback.format_exception(refusal.value))


def test_a_password_of_secrets_manager_is_redacted(
    sandbox: Sandbox,
    source: Query,
    collect_output: CollectOutput,
    made: Secrets,
    parrot: Parrot,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The password is in no variable."""
    with Gateway((sandbox.server.host, sandbox.server.port)) as gateway, AwsServer(source, gateway) as aws:
        use(aws, monkeypatch, tmp_path)
        aws.secret = {"username": "qupersync_reader", "password": made.make()}
        for name in ("REDSHIFT_PASSWORD", "REDSHIFT_USER"):
            monkeypatch.delenv(name)
        arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:quper-AbCdEf"
        monkeypatch.setenv("REDSHIFT_SECRET_ARN", arn)
        monkeypatch.setenv("REDSHIFT_PORT", str(parrot.port))
        text = collect_output()
        aws.secret = f"not JSON: {made.make()}"
        text += collect_output()
    assert "no login with the password '***'" in text and "is not a JSON object" in text
    assert not made.in_(text)


def test_source_errors_and_skipped_rows_show_no_secret(
    passwords: None, collect_output: CollectOutput, made: Secrets, source: Query
) -> None:
    source("INSERT INTO stv_node_storage_capacity (node, used, capacity) VALUES (NULL, 1, 2), (1, 1, 2)")
    text = collect_output()
    assert "Skipped a row" in text
    assert not made.in_(text)
    source("ALTER TABLE stv_node_storage_capacity RENAME COLUMN node TO knot")
    try:
        text = collect_output()
    finally:
        source("ALTER TABLE stv_node_storage_capacity RENAME COLUMN knot TO node")
    assert "42703" in text
    assert not made.in_(text)


def test_invalid_settings_show_no_secret(
    environment: dict[str, str], made: Secrets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "REDSHIFT_PASSWORD",
        "POSTGRES_PASSWORD",
        "REDSHIFT_ACCESS_KEY_ID",
        "REDSHIFT_SECRET_ACCESS_KEY",
        "REDSHIFT_SESSION_TOKEN",
    ):
        monkeypatch.setenv(name, made.make())
    # Also in a variable that holds no secret.
    monkeypatch.setenv("REDSHIFT_SSLMODE", os.environ["REDSHIFT_PASSWORD"])
    monkeypatch.setenv("SYNC_INTERVAL", "soon")
    for form in ([], ["--json"]):
        output = CliRunner().invoke(app, ["doctor", *form]).output
        assert "SYNC_INTERVAL" in output and "REDSHIFT_ACCESS_KEY_ID" in output
        assert not made.in_(output)


def test_a_failed_read_of_a_downstream_asset_is_redacted(
    passwords: None, made: Secrets, parrot: Parrot, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    monkeypatch.setenv("POSTGRES_PORT", str(parrot.port))
    definitions = build_definitions(Settings.load())
    assets: list[Any] = [*(definitions.assets or [])]

    @dg.asset(ins={"rows": dg.AssetIn(["quper", "node_details"], input_manager_key="postgres_io_manager")})
    def downstream(rows: Any) -> None:
        pass

    result = dg.materialize(
        [downstream, *assets],
        selection=[downstream],
        resources=dict(definitions.resources or {}),
        instance=instance,
        raise_on_error=False,
    )
    text = "\n".join(serialize_value(entry) for entry in instance.all_logs(result.run_id))
    assert not result.success and "***" in text
    assert not made.in_(text)
