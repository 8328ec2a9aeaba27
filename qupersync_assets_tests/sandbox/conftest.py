"""Connections of the real driver to gateways of any mode, before the server that all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import redshift_connector

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway

Connect = Callable[..., redshift_connector.Connection]


def driver_arguments(sandbox: Sandbox, gateway: Gateway) -> dict[str, Any]:
    """What the driver needs to log in through that gateway, without TLS."""
    environment = sandbox.environment()
    return {
        "host": gateway.host,
        "port": gateway.port,
        "database": environment["REDSHIFT_DATABASE"],
        "user": environment["REDSHIFT_USER"],
        "password": environment["REDSHIFT_PASSWORD"],
        "ssl": False,
    }


@pytest.fixture
def connect(sandbox: Sandbox) -> Iterator[Connect]:
    """Connects through a new gateway, of a kind and with arguments for the driver; autocommit is on."""
    with ExitStack() as stack:

        def run(
            mode: str = "provisioned", *, lists_absent: bool = False, **changes: Any
        ) -> redshift_connector.Connection:
            upstream = (sandbox.server.host, sandbox.server.port)
            gateway = stack.enter_context(Gateway(upstream, mode=mode, lists_absent=lists_absent))
            connection = redshift_connector.connect(**driver_arguments(sandbox, gateway) | changes)
            stack.callback(_close, connection)
            connection.autocommit = True
            return connection

        yield run


def _close(connection: redshift_connector.Connection) -> None:
    with suppress(redshift_connector.Error):  # the gateway may be gone
        connection.close()


def rows(connection: redshift_connector.Connection, statement: str) -> list[list[Any]]:
    """What a statement answers."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return [list(row) for row in cursor.fetchall()] if cursor.description else []


def refused(connection: redshift_connector.Connection, statement: str) -> tuple[str, str]:
    """SQLSTATE and message of the error that a statement ends with."""
    with pytest.raises(redshift_connector.ProgrammingError) as raised:
        rows(connection, statement)
    error = raised.value.args[0]
    return error["C"], error["M"]
