"""The sandbox in a process of its own, so that no pipeline shares a CPU's Python lock with the gateway.

`python -m benchmarks.host FOLDER` prints one line of JSON: how to connect. It ends with its standard input.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sandbox.server.postgres_server import PostgresServer

# One server plays both sides; it gets the memory that a server of its own would have.
SETTINGS = {
    "shared_buffers": "512MB",
    "work_mem": "64MB",
    "maintenance_work_mem": "256MB",
    "autovacuum": "off",
    # Redshift materialises a cursor's whole result before the first fetch is answered:
    # https://docs.aws.amazon.com/redshift/latest/dg/declare.html
    "cursor_tuple_fraction": "1.0",
}

LATENCY = 0.02  # seconds


def main() -> None:
    """Serve until nobody is at the other end."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # sent to a whole terminal; the standard input tells
        signal.signal(stop, signal.SIG_IGN)
    folder = Path(sys.argv[1])
    sandbox = Sandbox(folder)
    sandbox.server = PostgresServer(folder, SETTINGS)
    with sandbox:
        upstream = sandbox.server.host, sandbox.server.port
        # Other tools ask Redshift for what the strict gateway refuses, such as PostgreSQL's own catalog.
        with Gateway(upstream, strict=False) as lenient, Gateway(upstream) as slow:
            slow.latency = LATENCY
            told = {
                "environment": sandbox.environment(),
                "lenient": lenient.port,
                "slow": slow.port,
                "dsn": {database: sandbox.server.dsn(database) for database in ("redshift", "quper")},
            }
            print(json.dumps(told), flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
