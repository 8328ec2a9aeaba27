"""TLS to the target and to Dagster's storage: one description, and no password for a server that is not verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.postgres.connection import URL
from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sandbox.gateway.tls import Authority, TlsFiles
from qupersync_assets.settings import Settings

Listen = Callable[[TlsFiles | None], Gateway]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def listen(sandbox: Sandbox, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Listen]:
    """Put the TLS of a certificate, or none, before the target."""
    with ExitStack() as stack:

        def start(files: TlsFiles | None) -> Gateway:
            target = (sandbox.server.host, sandbox.server.port)
            gateway = stack.enter_context(Gateway(target, tls=files, strict=False))
            monkeypatch.setenv("POSTGRES_PORT", str(gateway.port))
            return gateway

        yield start


def engines() -> list[sa.Engine]:
    return [postgres_resource(Settings.load()).engine(), sa.create_engine(URL)]


def test_both_connections_verify_a_private_ca(
    listen: Listen, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = listen(authority.server(["127.0.0.1"]))
    monkeypatch.setenv("POSTGRES_SSL_CA", str(authority.ca))
    for engine in engines():
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SHOW TimeZone")) == "UTC"
    assert gateway.received.tls_handshakes == gateway.received.startups == 2


@pytest.mark.parametrize(("names", "trusted", "remedy"), [
    (["127.0.0.1"], False, "No trusted CA signed the server.s certificate: set POSTGRES_SSL_CA"),
    (["localhost"], True, "Check POSTGRES_HOST: the certificate is for another name"),
])  # fmt: skip
def test_a_server_that_is_not_verified_gets_no_password(
    listen: Listen, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    names: list[str], trusted: bool, remedy: str,
) -> None:  # fmt: skip
    gateway = listen(authority.server(names, "refused"))
    monkeypatch.setenv("POSTGRES_SSL_CA", str((authority if trusted else Authority(tmp_path)).ca))
    for engine in engines():
        with pytest.raises(sa.exc.OperationalError, match="certificate"):
            engine.connect()
    with pytest.raises(SyncError, match=remedy) as refusal, postgres_resource(Settings.load()).transaction():
        pass
    assert refusal.value.error_class is ErrorClass.FATAL
    assert (gateway.received.startups, gateway.received.passwords) == (0, 0)


def test_a_server_without_tls_gets_no_password(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = listen(None)
    for engine in engines():  # on this machine the default is prefer
        engine.connect().close()
    assert gateway.received.passwords == 4
    monkeypatch.setenv("POSTGRES_SSLMODE", "require")  # the default for another machine
    for engine in engines():
        with pytest.raises(sa.exc.OperationalError, match="server does not support SSL"):
            engine.connect()
    assert gateway.received.passwords == 4
