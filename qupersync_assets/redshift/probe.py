"""Asks whether a cluster can be reached, without a login and without a query."""

import socket
from contextlib import suppress

from qupersync_assets.settings.redshift_login import RedshiftSettings

# The schedule waits for it.
_SECONDS = 3.0


def answers(login: RedshiftSettings) -> bool:
    """Return whether the port of a cluster accepts a connection; False if its host is known to AWS alone."""
    with suppress(OSError):
        if login.host:
            socket.create_connection((login.host, login.port), timeout=min(_SECONDS, login.connect_timeout)).close()
            return True
    return False
