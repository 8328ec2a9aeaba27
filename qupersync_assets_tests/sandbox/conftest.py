"""Connections of the real driver to gateways of any mode, in front of the shared PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import redshift_connector

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sandbox.rules.dialect import Mode

Connect = Callable[..., redshift_connector.Connection]


def driver_arguments(sandbox: Sandbox, gateway: Gateway) -> dict[str, Any]:
    """Return the driver's arguments for a login through a gateway, without TLS."""
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
    """Connect through a new gateway of a mode, with additional driver arguments; autocommit is on."""
    with ExitStack() as stack:

        def run(
            mode: Mode = "provisioned", *, lists_absent: bool = False, **changes: Any
        ) -> redshift_connector.Connection:
            upstream = (sandbox.server.host, sandbox.server.port)
            gateway = stack.enter_context(Gateway(upstream, mode=mode, lists_absent=lists_absent))
            connection = redshift_connector.connect(**driver_arguments(sandbox, gateway) | changes)
            stack.callback(_close, connection)
            connection.autocommit = True
            return connection

        yield run


def _close(connection: redshift_connector.Connection) -> None:
    with suppress(redshift_connector.Error):  # the gateway may be closed
        connection.close()


def rows(connection: redshift_connector.Connection, statement: str) -> list[list[Any]]:
    """Return the rows of a statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return [list(row) for row in cursor.fetchall()] if cursor.description else []


def refused(connection: redshift_connector.Connection, statement: str) -> tuple[str, str]:
    """Return SQLSTATE and message of the error of a refused statement."""
    with pytest.raises(redshift_connector.ProgrammingError) as raised:
        rows(connection, statement)
    error = raised.value.args[0]
    return error["C"], error["M"]
