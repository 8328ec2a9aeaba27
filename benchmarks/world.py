"""Both databases: fills the source, and compares a target with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import psycopg2
import sqlalchemy as sa

from benchmarks.process import family_cpu_seconds
from qupersync_assets.sandbox.workload.workload import Workload
from qupersync_assets.spec import FULL_READ, select_statement
from qupersync_assets.sync_jobs.query_history import SPEC

SOURCE = "bench.queries"
# The user of other tools in the source: it sees PostgreSQL's catalog instead of Redshift's.
PEER, PEER_PASSWORD = "bench_peer", "peer"


def connect_as_peer() -> Any:
    """Open a driver connection as the user of other tools, to the source of the environment."""
    import redshift_connector

    return redshift_connector.connect(
        host=os.environ["REDSHIFT_HOST"],
        port=int(os.environ["REDSHIFT_PORT"]),
        database=os.environ["REDSHIFT_DATABASE"],
        user=PEER,
        password=PEER_PASSWORD,
        ssl=False,
    )


# Redshift stores texts without padding, so that RTRIM is cheap; PostgreSQL stores the padding and counts its
# characters. Without this change the source would be slower than the measured pipelines.
_UNPAD = """
SELECT string_agg(format('ALTER COLUMN %I TYPE varchar(%s)', attname, greatest(atttypmod - 4, 20)), ', ')
FROM pg_catalog.pg_attribute
WHERE attrelid = 'redshift.sys_query_history'::regclass AND atttypid = 'bpchar'::regtype AND attnum > 0
"""

# Moves the oldest queries, so that they do not expire during the benchmark.
_LATER = """
UPDATE redshift.sys_query_history
SET start_time = start_time + interval '2 hours', end_time = end_time + interval '2 hours'
WHERE start_time < redshift.getdate() - interval '7 days' + interval '2 hours'
"""


class Content(NamedTuple):
    """The content of a relation: number of rows, and a sum of hashes over the common columns."""

    rows: int
    hashes: int


class Mismatch(Exception):
    """A target has other rows than the source."""


class World:
    """A running sandbox in `folder`, as a separate process.

    Attributes:
        environment: QuperSync's variables, for the strict gateway.
        folder: where commands run; it has no Dagster instance.
        lenient: port of a gateway that accepts all statements.
        slow: port of a gateway with 20 ms latency.
        log: the log of PostgreSQL.
        rows: number of rows in the source.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._host = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.host", str(folder / "sandbox")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._host.stdout
        connection = json.loads(self._host.stdout.readline())
        self.environment: dict[str, str] = connection["environment"]
        self.lenient: int = connection["lenient"]
        self.slow: int = connection["slow"]
        self.log = folder / "sandbox" / "postgres.log"
        self.rows = 0
        self._content: Content | None = None  # of the source
        self._dsn: dict[str, str] = connection["dsn"]
        self._prepare()

    def close(self) -> None:
        """Stop the sandbox."""
        self._host.communicate("")

    @contextmanager
    def cursor(self, database: str) -> Iterator[Any]:
        """Open a cursor as superuser in `redshift` or `quper`, with autocommit."""
        with closing(psycopg2.connect(self._dsn[database])) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SET timezone = 'UTC'")
                yield cursor

    def urls(self) -> tuple[str, str]:
        """Return the URLs of source (lenient gateway) and target, for other tools."""
        own = self.environment
        reader = f"{PEER}:{PEER_PASSWORD}"
        writer = f"{own['POSTGRES_USER']}:{own['POSTGRES_PASSWORD']}"
        return (
            f"postgresql://{reader}@127.0.0.1:{self.lenient}/redshift?sslmode=disable",
            f"postgresql://{writer}@127.0.0.1:{own['POSTGRES_PORT']}/quper?sslmode=disable",
        )

    def drop(self, schema: str) -> None:
        """Drop a tool's schemas of the target, and create its schema again, empty."""
        owner = self.environment["POSTGRES_USER"]
        with self.cursor("quper") as cursor:
            cursor.execute(
                f"DROP SCHEMA IF EXISTS {schema}, {schema}_staging CASCADE;CREATE SCHEMA {schema} AUTHORIZATION {owner}"
            )

    def fill(self, rows: int) -> None:
        """Fill the source with this number of queries; none expires within two hours."""
        with self.cursor("redshift") as cursor:
            cursor.execute("TRUNCATE redshift.sys_query_history")
            self._workload().bulk_queries(rows, datetime.now(UTC))
            cursor.execute(_LATER)
        self._settle("redshift", "redshift.sys_query_history")
        self.rows, self._content = rows, None

    def history(self, queries: int) -> None:
        """Fill all views of the source with a week of activity with this number of queries."""
        with self.cursor("redshift") as cursor:
            cursor.execute("TRUNCATE redshift.sys_query_history")
        self._workload().backfill(datetime.now(UTC), queries=queries)

    def add(self, rows: int) -> None:
        """Add queries of the last second, newer than all others."""
        with self.cursor("redshift") as cursor:
            cursor.execute(
                """
                CREATE TEMPORARY TABLE added AS
                SELECT * FROM redshift.sys_query_history ORDER BY query_id DESC LIMIT %s;
                UPDATE added SET query_id = query_id + 10000000, end_time = redshift.getdate(),
                    start_time = redshift.getdate() - query_id %% 1000 * interval '1 millisecond';
                INSERT INTO redshift.sys_query_history SELECT * FROM added
                """,
                [rows],
            )
        self.rows, self._content = self.rows + rows, None

    def create_database(self, name: str) -> dict[str, str]:
        """Create an empty target database; return the variables for it."""
        with self.cursor("quper") as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
            cursor.execute(f"CREATE DATABASE {name} OWNER {self.environment['POSTGRES_USER']}")
        self._dsn[name] = self._dsn["quper"].replace("dbname='quper'", f"dbname='{name}'")
        return {"POSTGRES_DATABASE": name}

    def check(self, table: str, condition: str = "true", database: str = "quper") -> None:
        """Compare a target table, or the rows of it under a condition, with the source.

        Raises:
            Mismatch: the target has other rows.
        """
        if self._content is None:
            with self.cursor("redshift") as cursor:
                cursor.execute("SET search_path = redshift, pg_catalog")
                self._content = _content(cursor, SOURCE)
        with self.cursor(database) as cursor:
            found = _content(cursor, f"(SELECT * FROM {table} WHERE {condition}) AS target")
        if found != self._content:
            raise Mismatch(f"{table} has {found}, the source {self._content}.")

    def checkpoint(self) -> None:
        """Write what was changed to the disk, so that no later measurement contains it."""
        with self.cursor("quper") as cursor:
            cursor.execute("CHECKPOINT")

    def settle(self, table: str, database: str = "quper") -> int:
        """Vacuum a target table and write a checkpoint; return the transaction id for `rewritten`."""
        self._settle(database, table)
        with self.cursor("quper") as cursor:
            cursor.execute("SELECT pg_current_xact_id()::text::bigint")
            return int(cursor.fetchone()[0])

    def rewritten(self, table: str, since: int) -> int:
        """Return the number of rows that were written after the transaction of `settle`."""
        with self.cursor("quper") as cursor:
            cursor.execute(f"SELECT count(*) FROM {table} WHERE xmin::text::bigint > %s", [since])
            return int(cursor.fetchone()[0])

    def cpu_seconds(self) -> float:
        """Return the CPU time of PostgreSQL, which is the source and the target."""
        return family_cpu_seconds(self.processes()[1:])

    def processes(self) -> list[psutil.Process]:
        """Return the processes of PostgreSQL and the gateways."""
        host = psutil.Process(self._host.pid)
        return [host, *host.children(recursive=True)]

    def _prepare(self) -> None:
        with self.cursor("redshift") as cursor:
            cursor.execute(_UNPAD)
            (changes,) = cursor.fetchone()
            if changes:
                cursor.execute(f"ALTER TABLE redshift.sys_query_history {changes}")
            # The rows of QuperSync's own statement, under the column names of its table.
            statement = select_statement(SPEC, SPEC.variants[0], set(), FULL_READ, False).rpartition("ORDER BY")[0]
            cursor.execute("SET search_path = redshift_catalog, redshift, pg_catalog")
            cursor.execute(
                f"CREATE SCHEMA bench; CREATE VIEW {SOURCE} AS {statement};"
                f"CREATE ROLE {PEER} LOGIN PASSWORD '{PEER_PASSWORD}';"
                f"GRANT CONNECT ON DATABASE redshift TO {PEER};"
                f"ALTER ROLE {PEER} IN DATABASE redshift SET search_path = pg_catalog;"
                f"GRANT USAGE ON SCHEMA bench, redshift TO {PEER}; GRANT SELECT ON {SOURCE} TO {PEER}"
            )

    def _workload(self) -> Workload:
        return Workload(lambda: psycopg2.connect(self._dsn["redshift"]))

    def _settle(self, database: str, table: str) -> None:
        with self.cursor(database) as cursor:
            cursor.execute(f"VACUUM ANALYZE {table}")
            cursor.execute("CHECKPOINT")


def _content(cursor: Any, relation: str) -> Content:
    values = ", ".join(f"coalesce({_canonical(c)}, '~')" for c in SPEC.columns)
    cursor.execute(f"SELECT count(*), coalesce(sum(hashtextextended(concat_ws('|', {values}), 0)), 0) FROM {relation}")
    return Content(*map(int, cursor.fetchone()))


def _canonical(column: sa.Column[Any]) -> str:
    """Return a column as text, independent of the type that a tool has chosen."""
    if isinstance(column.type, sa.DateTime):
        return f"(extract(epoch FROM {column.name}::timestamptz) * 1000000)::bigint::text"
    if isinstance(column.type, sa.Integer):
        return f"{column.name}::bigint::text"
    return f"{column.name}::boolean::text" if isinstance(column.type, sa.Boolean) else f"{column.name}::text"
