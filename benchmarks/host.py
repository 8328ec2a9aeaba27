"""Runs the sandbox as a separate process, so that no pipeline shares the interpreter lock with the gateway.

`python -m benchmarks.host FOLDER` prints the connections as a line of JSON, and ends with its standard input.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sandbox.server.postgres_server import PostgresServer

# One server contains both databases, with the memory of a dedicated server, and with durable commits.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "shared_buffers": "512MB",
    "work_mem": "64MB",
    "maintenance_work_mem": "256MB",
    "autovacuum": "off",
    # Redshift materialises a cursor's whole result before the first fetch returns:
    # https://docs.aws.amazon.com/redshift/latest/dg/declare.html
    "cursor_tuple_fraction": "1.0",
}

LATENCY = 0.02  # seconds


def main() -> None:
    """Serve until the standard input is closed."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # the closed standard input ends the process
        signal.signal(stop, signal.SIG_IGN)
    folder = Path(sys.argv[1])
    sandbox = Sandbox(folder)
    sandbox.server = PostgresServer(folder, SETTINGS)
    with sandbox:
        upstream = sandbox.server.host, sandbox.server.port
        # The strict gateway refuses statements of other tools, such as queries over PostgreSQL's catalog.
        with Gateway(upstream, strict=False) as lenient, Gateway(upstream) as slow:
            slow.latency = LATENCY
            connection = {
                "environment": sandbox.environment(),
                "lenient": lenient.port,
                "slow": slow.port,
                "dsn": {database: sandbox.server.dsn(database) for database in ("redshift", "quper")},
            }
            print(json.dumps(connection), flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
