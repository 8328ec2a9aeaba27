"""Runs the queries for readers, and those of the dashboards, in the PostgreSQL of POSTGRES_*."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.settings import Settings
from tools.grafana import boards
from tools.grafana.macros import expand, statements
from tools.reader_queries import pages, reader_queries


def main() -> None:
    """Run each query, and print how many there are and how many find rows; one that fails is an error."""
    now = datetime.now(UTC) + timedelta(seconds=1)  # dashboards cut times to seconds
    chosen = {"cluster": "sandbox", "search": "", "table_id": "0", "query_id": "0", "pattern": ""}
    queries = [*reader_queries("examples").values(), *pages("sandbox").values()]
    for board in map(json.loads, boards().values()):
        queries += [expand(sql, chosen, now - timedelta(days=7), now) for _, sql in statements(board)]
    found = 0
    with postgres_resource(Settings.load(logins=False)).transaction() as connection:
        for sql in queries:
            found += bool(connection.exec_driver_sql(sql.replace("%", "%%")).all())
    print(f"{len(queries)} queries for readers, of which {found} find rows.")


if __name__ == "__main__":
    main()
