"""Tests of the gateway, between the real Redshift driver and a real PostgreSQL server."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg2
import pytest
import redshift_connector

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets_tests.sandbox.conftest import driver_arguments

CANCEL_REQUEST = struct.pack("!ii", 16, 80877102)  # then process id and key


@pytest.fixture
def gateway(sandbox: Sandbox) -> Iterator[Gateway]:
    """A gateway that the test may stop."""
    with Gateway((sandbox.server.host, sandbox.server.port)) as running:
        yield running


def _connect(sandbox: Sandbox, gateway: Gateway, **changes: Any) -> redshift_connector.Connection:
    arguments = {**driver_arguments(sandbox, gateway), "application_name": "gateway test", **changes}
    return redshift_connector.connect(**arguments)


def _sessions(sandbox: Sandbox) -> int:
    with closing(sandbox.connect_redshift()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gateway test'")
        return int(cursor.fetchone()[0])


def test_driver_logs_in_with_scram(sandbox: Sandbox, gateway: Gateway) -> None:
    with closing(sandbox.connect_redshift()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'qupersync_reader'")
        assert cursor.fetchone()[0].startswith("SCRAM-SHA-256$")
    with _connect(sandbox, gateway) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_user::text, current_setting('application_name'), getdate()")
        ((user, application, now),) = cursor.fetchall()
        assert (user, application) == ("qupersync_reader", "gateway test")
        assert isinstance(now, datetime)


def test_wrong_password_raises_postgres_error(sandbox: Sandbox, gateway: Gateway) -> None:
    with pytest.raises(redshift_connector.ProgrammingError) as raised:
        _connect(sandbox, gateway, password="wrong")
    assert raised.value.args[0]["C"] == "28P01"


def test_cursor_pages_contain_expected_values(sandbox: Sandbox, gateway: Gateway) -> None:
    declare = """
        DECLARE pages CURSOR FOR
        SELECT 'ab'::character(5) AS padded, 7::smallint AS small, 4294967295::oid AS id, 'relname'::name AS name,
            g %% 2 = 0 AS flag, 12345678901234567890.55::numeric(38,2) AS number, 9223372036854775807 AS big,
            '2024-02-29 23:59:59.000001'::timestamp AS at, 'r'::"char" AS kind, NULL::timestamp AS nothing,
            'Zażółć 東京 €' AS text, g::integer AS g
        FROM generate_series(1, 2500) g
    """.replace("%%", "%")
    expected = [
        "ab   ", 7, 4294967295, "relname", False, Decimal("12345678901234567890.55"), 2**63 - 1,
        datetime(2024, 2, 29, 23, 59, 59, 1), "r", None, "Zażółć 東京 €", 1,
    ]  # fmt: skip
    with _connect(sandbox, gateway) as connection, connection.cursor() as cursor:
        cursor.execute(declare)
        pages: list[Any] = []
        while not pages or len(pages[-1]) == 1000:
            cursor.execute("FETCH FORWARD 1000 FROM pages")
            pages.append(cursor.fetchall())
        assert [len(page) for page in pages] == [1000, 1000, 500]
        assert list(pages[0][0]) == expected
        assert [row[-1] for page in pages for row in page] == list(range(1, 2501))


def test_two_connections_work_concurrently(sandbox: Sandbox, gateway: Gateway) -> None:
    with _connect(sandbox, gateway) as one, _connect(sandbox, gateway) as two:
        cursors = [one.cursor(), two.cursor()]
        for cursor in cursors:
            cursor.execute("DECLARE numbers CURSOR FOR SELECT generate_series(1, 10)")
        for expected in range(1, 4):
            for cursor in cursors:
                cursor.execute("FETCH FORWARD 1 FROM numbers")
                assert cursor.fetchone() == [expected]
        assert _sessions(sandbox) == 2


def test_slow_reader_receives_large_values_unchanged(sandbox: Sandbox, gateway: Gateway) -> None:
    gateway.strict = False
    size = 40_000_000  # much larger than all buffers between server and client
    with closing(psycopg2.connect(sandbox.server.dsn("redshift"), port=gateway.port)) as connection:
        received = 0

        class Slow:
            def write(self, data: bytes) -> None:
                nonlocal received
                assert data.strip(b"x\n") == b""
                if not received:
                    time.sleep(0.2)
                received += len(data)

        statement = f"COPY (SELECT repeat('x', {size // 40}) FROM generate_series(1, 40)) TO STDOUT"
        connection.cursor().copy_expert(statement, Slow())
    assert received == size + 40


def test_cancel_request_reaches_server(sandbox: Sandbox, gateway: Gateway) -> None:
    gateway.strict = False
    connection = _connect(sandbox, gateway)

    def cancel() -> None:
        with socket.create_connection((gateway.host, gateway.port), timeout=10) as client:
            client.sendall(CANCEL_REQUEST + (connection._backend_key_data or b""))
            assert client.recv(1) == b""

    timer = threading.Timer(0.2, cancel)
    timer.start()
    with pytest.raises(redshift_connector.ProgrammingError) as raised:
        connection.cursor().execute("SELECT pg_sleep(30)")
    timer.join()
    assert raised.value.args[0]["C"] == "57014"
    connection.close()


def test_tls_is_declined(sandbox: Sandbox, gateway: Gateway) -> None:
    with pytest.raises(redshift_connector.InterfaceError, match="refuses SSL"):
        _connect(sandbox, gateway, ssl=True)
    dsn = sandbox.server.dsn("redshift")
    psycopg2.connect(dsn, port=gateway.port, sslmode="prefer").close()


def test_startup_packet_may_be_split(gateway: Gateway) -> None:
    parameters = b"user\0postgres\0driver_version\0x\0database\0redshift\0\0"
    packet = struct.pack("!ii", len(parameters) + 8, 3 << 16) + parameters
    with socket.create_connection((gateway.host, gateway.port), timeout=10) as client:
        for position in range(len(packet)):
            client.sendall(packet[position : position + 1])
            time.sleep(0.001)
        assert client.recv(9)[:1] == b"R"  # the server asks for the password


def test_invalid_startup_packet_is_refused(gateway: Gateway) -> None:
    with socket.create_connection((gateway.host, gateway.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = client.makefile("rb").read()
    assert answer[:1] == b"E"
    assert b"C08P01\0" in answer


def test_half_closed_client_receives_response() -> None:
    with socket.create_server(("127.0.0.1", 0)) as upstream:

        def answer_after_the_end() -> None:
            server, _ = upstream.accept()
            with server, server.makefile("rb") as stream:
                server.sendall(b"got %d" % len(stream.read()))

        thread = threading.Thread(target=answer_after_the_end)
        thread.start()
        with (
            Gateway(upstream.getsockname()) as gateway,
            socket.create_connection(("127.0.0.1", gateway.port)) as client,
        ):
            client.settimeout(10)
            client.sendall(CANCEL_REQUEST + b"12345678" + b"more")
            client.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").read() == b"got 20"
        thread.join()


def test_unreachable_postgres_raises_clear_error(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        unused = closed.getsockname()
    with Gateway(unused) as gateway, pytest.raises(redshift_connector.ProgrammingError) as raised:
        _connect(sandbox, gateway)
    assert raised.value.args[0]["C"] == "08006"
    assert "cannot be reached" in raised.value.args[0]["M"]


def test_terminated_session_ends_for_driver(sandbox: Sandbox, gateway: Gateway) -> None:
    connection = _connect(sandbox, gateway)
    cursor = connection.cursor()
    cursor.execute("SELECT pg_backend_pid()")
    with closing(sandbox.connect_redshift()) as killer, killer.cursor() as kill:
        kill.execute("SELECT pg_terminate_backend(%s, 5000)", cursor.fetchone())
        assert kill.fetchone() == (True,)
    with pytest.raises(redshift_connector.Error):
        cursor.execute("SELECT 1")


def test_latency_delays_responses_without_adding_up(sandbox: Sandbox, gateway: Gateway) -> None:
    connection = _connect(sandbox, gateway)
    cursor = connection.cursor()
    gateway.latency = 0.3
    began = time.monotonic()
    for expected in range(3):
        cursor.execute(f"SELECT {expected}")
        assert cursor.fetchone() == [expected]
    assert time.monotonic() - began > 3 * gateway.latency
    began = time.monotonic()
    cursor.execute("SELECT repeat('x', 200000) FROM generate_series(1, 200)")
    assert {len(text) for (text,) in cursor.fetchall()} == {200_000}
    # If the latency added up per chunk of 256 kB, as asyncio reads them, this would take 45 seconds.
    assert time.monotonic() - began < 20
    # The error is received before the end of the connection, which the server has already closed.
    with pytest.raises(redshift_connector.ProgrammingError) as raised:
        _connect(sandbox, gateway, password="wrong")
    assert raised.value.args[0]["C"] == "28P01"
    gateway.latency = 0
    began = time.monotonic()
    cursor.execute("SELECT 1")
    assert time.monotonic() - began < 0.3


def test_stop_closes_both_ends_and_port(sandbox: Sandbox, gateway: Gateway) -> None:
    connection = _connect(sandbox, gateway)
    assert _sessions(sandbox) == 1
    port = gateway.port
    gateway.stop()
    with pytest.raises(redshift_connector.InterfaceError):
        connection.cursor().execute("SELECT 1")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((gateway.host, port))
    deadline = time.monotonic() + 10
    while _sessions(sandbox) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _sessions(sandbox) == 0
    gateway.start()
    assert gateway.port == port
    _connect(sandbox, gateway).close()
