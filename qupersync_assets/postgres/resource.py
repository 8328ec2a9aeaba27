"""The target PostgreSQL: its engine, and transactions whose errors say what to change."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import psycopg2
import sqlalchemy as sa
from sqlalchemy.util import LRUCache

from qupersync_assets.core.errors import sync_error
from qupersync_assets.core.redaction import redacted
from qupersync_assets.postgres.connection import URL
from qupersync_assets.settings import Settings
from qupersync_assets.settings.postgres import PostgresSettings


@contextmanager
def postgres_errors(doing: str) -> Iterator[None]:
    """Turn errors of the driver and of SQLAlchemy into a SyncError that starts with `doing`."""
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError, psycopg2.Error) as error:
        raise sync_error(error, "POSTGRES", doing) from redacted(error)


@lru_cache(maxsize=16)
def _first_engine(settings: PostgresSettings) -> tuple[sa.Engine, Any]:
    """Return an engine that never connects, and the compiled statements of all engines with these settings.

    Each resource has its own pool. What SQLAlchemy compiled, and what it asked the server at its first connection, is
    kept: https://docs.sqlalchemy.org/en/21/core/connections.html#sql-compilation-caching.
    """
    session = {
        "application_name": "qupersync",
        "idle_session_timeout": "0",  # a load holds its lock while it waits for Redshift
        "statement_timeout": f"{settings.postgres_statement_timeout}s",
    }
    # Parameters are customers' data.
    engine = sa.create_engine(
        URL, postgres=settings, session=session, pool_size=2, pool_pre_ping=True, hide_parameters=True
    )
    return engine, LRUCache(500)


class PostgresResource:
    """The target database; nothing is opened before the first statement.

    Args:
        settings: how to connect.
        auto_migrate: whether a sync brings the schema quper up to date.
    """

    def __init__(self, settings: PostgresSettings, *, auto_migrate: bool = True) -> None:
        self.settings = settings
        self.auto_migrate = auto_migrate
        self._engine: sa.Engine | None = None

    def engine(self) -> sa.Engine:
        """The engine, with a small pool that replaces dead connections; it does not connect yet."""
        if self._engine is None:
            first, statements = _first_engine(self.settings)
            options = {"compiled_cache": statements}
            self._engine = sa.Engine(
                first.pool.recreate(), first.dialect, first.url, execution_options=options, hide_parameters=True
            )
        return self._engine

    def dispose(self) -> None:
        """Close the pooled connections."""
        if self._engine is not None:
            self._engine.dispose()

    def check(self) -> None:
        """Log in again, and write a temporary file: sessions that are open show neither a new password nor a full disk.

        Raises:
            SyncError: a run could not use PostgreSQL now.
        """
        self.dispose()
        with self.transaction() as connection:
            connection.execute(_LEAST_MEMORY)
            connection.execute(_WRITE)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A connection in a transaction that is committed at the end, or rolled back by an error.

        Raises:
            SyncError: PostgreSQL cannot be reached, or refuses the login or a statement.
        """
        doing = f"PostgreSQL at {self.settings.postgres_endpoint} failed"
        with postgres_errors(doing), self.engine().begin() as connection:
            yield connection


# Needs more than the least memory for a statement: the rest is written to a temporary file.
_LEAST_MEMORY = sa.text("SET LOCAL work_mem = '64kB'")
_WRITE = sa.text("SELECT pg_catalog.count(*) FROM pg_catalog.generate_series(1, 20000)")


def count_rows(connection: sa.Connection, table: sa.Table, cluster: str) -> int:
    """Return the number of rows of a cluster in a target table; above 100,000 the planner's estimate."""
    # https://www.postgresql.org/docs/current/sql-explain.html
    explain = sa.text(f"EXPLAIN (FORMAT JSON) SELECT FROM {table.fullname} WHERE cluster = :cluster")
    [node] = connection.execute(explain, {"cluster": cluster}).scalar_one()
    rows: int = node["Plan"]["Plan Rows"]
    if rows < 100_000:
        counted = sa.select(sa.func.count()).select_from(table).where(table.c.cluster == cluster)
        rows = connection.execute(counted).scalar_one()
    return rows


def postgres_resource(settings: Settings) -> PostgresResource:
    """Build the resource of the target."""
    return PostgresResource(settings, auto_migrate=settings.sync_auto_migrate)
