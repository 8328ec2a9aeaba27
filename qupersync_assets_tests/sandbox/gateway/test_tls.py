"""Tests of TLS: the driver sends its password only to a verified server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redshift_connector

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sandbox.gateway.tls import Authority, TlsFiles
from qupersync_assets_tests.sandbox.conftest import Connect, refused, rows


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the driver trust the authority: OpenSSL reads the variable for each context."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))


def _gateway(sandbox: Sandbox, tls: TlsFiles | None) -> Gateway:
    return Gateway((sandbox.server.host, sandbox.server.port), tls=tls)


@pytest.mark.parametrize(
    ("host", "sslmode"), [("127.0.0.1", "verify-full"), ("localhost", "verify-full"), ("127.0.0.1", "verify-ca")]
)
def test_verified_server_is_accepted(
    sandbox: Sandbox, connect: Connect, authority: Authority, host: str, sslmode: str
) -> None:
    with _gateway(sandbox, authority.server(["localhost", "127.0.0.1"])) as gateway:
        connection = connect(host=host, port=gateway.port, ssl=True, sslmode=sslmode)
        assert isinstance(connection._usock, ssl.SSLSocket)
        assert rows(connection, "SELECT n FROM generate_series(1, 30000) n")[-1] == [30000]
        assert refused(connection, "SELECT now() FROM stl_scan")[0] == "0A000"
        assert gateway.received.tls_handshakes == gateway.received.startups == 1
        assert gateway.received.passwords == 2  # SCRAM takes two messages


def _expired(authority: Authority) -> TlsFiles:
    return authority.server(["127.0.0.1"], "expired", timedelta(hours=-1))


def _wrong_name(authority: Authority) -> TlsFiles:
    return authority.server(["redshift.example", "127.0.0.2"], "wrong-name")


def _unknown_authority(authority: Authority) -> TlsFiles:
    return Authority(authority.ca.parent / "unknown").server(["127.0.0.1"])


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [(_expired, "expired"), (_wrong_name, "mismatch"), (_unknown_authority, "unable to get local issuer|self-signed")],
)
def test_unverified_server_is_refused(
    sandbox: Sandbox, connect: Connect, authority: Authority, certificate: Any, reason: str
) -> None:
    with _gateway(sandbox, certificate(authority)) as gateway:
        with pytest.raises(redshift_connector.InterfaceError) as raised:
            connect(host="127.0.0.1", port=gateway.port, ssl=True, sslmode="verify-full")
        assert isinstance(raised.value.args[1], ssl.SSLCertVerificationError)
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            raise raised.value.args[1]
        # After the second connection, the gateway has counted the first.
        connect(port=gateway.port, ssl=False).close()
        received = gateway.received
    assert (received.tls_requests, received.tls_failures, received.tls_handshakes) == (1, 1, 0)
    assert (received.startups, received.passwords) == (1, 2)  # of the connection without TLS


def test_server_without_tls_is_refused(sandbox: Sandbox, connect: Connect) -> None:
    with _gateway(sandbox, None) as gateway:
        with pytest.raises(redshift_connector.InterfaceError, match="refuses SSL"):
            connect(port=gateway.port, ssl=True, sslmode="verify-full")
        assert gateway.received.tls_requests == 1
        assert gateway.received.startups == gateway.received.passwords == 0


def test_bytes_before_handshake_are_discarded(sandbox: Sandbox, authority: Authority) -> None:
    body = b"user\0postgres\0database\0redshift\0\0"
    early = struct.pack("!ii", len(body) + 8, 3 << 16) + body
    context = ssl.create_default_context(cafile=str(authority.ca))
    with (
        _gateway(sandbox, authority.server(["127.0.0.1"])) as gateway,
        socket.create_connection((gateway.host, gateway.port), timeout=10) as client,
    ):
        client.sendall(struct.pack("!ii", 8, 80877103) + early)
        assert client.recv(1) == b"S"
        with context.wrap_socket(client, server_hostname="127.0.0.1"):
            assert gateway.received.startups == 0


def test_startup_packet_may_follow_handshake_directly(sandbox: Sandbox, authority: Authority) -> None:
    body = b"user\0postgres\0database\0redshift\0\0"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=str(authority.ca))
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with (
        _gateway(sandbox, authority.server(["127.0.0.1"])) as gateway,
        socket.create_connection((gateway.host, gateway.port), timeout=10) as client,
    ):
        client.sendall(struct.pack("!ii", 8, 80877103))
        assert client.recv(1) == b"S"
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.sendall(outgoing.read())
                incoming.write(client.recv(65536))
        tls.write(struct.pack("!ii", len(body) + 8, 3 << 16) + body)
        client.sendall(outgoing.read())
        answer = b""
        while not answer:
            incoming.write(client.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                answer = tls.read()
        assert answer[:1] == b"R"  # the server asks for the password


def test_large_response_passes_through_tls(sandbox: Sandbox, authority: Authority) -> None:
    with _gateway(sandbox, authority.server(["localhost"])) as gateway:
        gateway.strict = False
        dsn = f"{sandbox.server.dsn('redshift')} host=localhost sslmode=verify-full sslrootcert={authority.ca}"
        connection = psycopg2.connect(dsn, port=gateway.port)
        with connection.cursor() as cursor:
            cursor.execute("SELECT repeat('x', 10000000)")
            assert len(cursor.fetchone()[0]) == 10_000_000
        connection.close()


def test_sandbox_environment_includes_certificate(tmp_path: Path, authority: Authority) -> None:
    files = authority.server(["127.0.0.1"])
    environment = None
    with Sandbox(tmp_path, "serverless", tls=files) as sandbox:
        environment = sandbox.environment()
        with redshift_connector.connect(
            host=environment["REDSHIFT_HOST"],
            port=int(environment["REDSHIFT_PORT"]),
            database=environment["REDSHIFT_DATABASE"],
            user=environment["REDSHIFT_USER"],
            password=environment["REDSHIFT_PASSWORD"],
            sslmode="verify-full",
        ) as connection:
            assert refused(connection, "SELECT 1 FROM stl_scan")[0] == "42P01"
    assert (environment["REDSHIFT_SSL"], environment["SSL_CERT_FILE"]) == ("true", str(files.ca))


def test_keys_are_private(authority: Authority) -> None:
    files = authority.server(["localhost"], "private")
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (files.ca, files.certificate, files.key))
