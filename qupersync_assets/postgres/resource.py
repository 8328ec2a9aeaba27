"""The PostgreSQL side: the engine, and transactions whose errors say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import sqlalchemy as sa
from pydantic import Field, PrivateAttr

from qupersync_assets.core.errors import load_error, without_secrets


class PostgresResource(dg.ConfigurableResource["PostgresResource"]):
    """The target database; nothing is opened before the first statement."""

    host: str = Field(description="Host of the target PostgreSQL.")
    port: int = Field(default=5432, description="Its port.")
    database: str = Field(description="Database that holds the schema quper.")
    user: str = Field(description="User to connect as.")
    password: str | None = Field(default=None, repr=False, description="Password, from POSTGRES_PASSWORD.")
    sslmode: str = Field(default="prefer", description="libpq's sslmode.")
    connect_timeout: int = Field(default=10, description="Seconds to wait for a connection.")
    statement_timeout: int = Field(default=120, description="Seconds that one statement may take.")
    auto_migrate: bool = Field(default=True, description="Whether a sync brings the schema quper up to date.")

    _engine: sa.Engine | None = PrivateAttr(default=None)

    def engine(self) -> sa.Engine:
        """The engine, with a small pool that replaces dead connections; it does not connect yet."""
        if self._engine is None:
            self._engine = sa.create_engine(
                sa.URL.create(
                    "postgresql+psycopg2",
                    self.user,
                    self.password,
                    self.host,
                    self.port,
                    self.database,
                ),
                pool_size=2,
                pool_pre_ping=True,
                hide_parameters=True,  # parameters are customers' data
                connect_args={
                    "sslmode": self.sslmode,
                    "connect_timeout": self.connect_timeout,
                    # We too notice a server that vanishes without a word.
                    "keepalives_idle": 60,
                    "keepalives_interval": 10,
                    "keepalives_count": 3,
                    "tcp_user_timeout": 90_000,
                    "application_name": "qupersync",
                    # A server that hears nothing more of us ends the session, and frees its locks.
                    "options": f"-c timezone=UTC -c statement_timeout={self.statement_timeout * 1000} "
                    "-c tcp_keepalives_idle=60 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
                },
            )
        return self._engine

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the pooled connections: whoever runs many times in one process must not collect them."""
        if self._engine is not None:
            self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A connection in a transaction that is committed at the end, or rolled back by an error.

        Raises:
            LoadError: PostgreSQL cannot be reached, or refuses the login or a statement.
        """
        try:
            with self.engine().begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            told = load_error(error, "POSTGRES", f"PostgreSQL at {self.host}:{self.port} failed")
            raise told from without_secrets(error)

    def count_rows(self, table: sa.Table, cluster: str) -> int:
        """Rows of a cluster in a target table: counted, or above 100,000 PostgreSQL's own estimate."""
        with self.transaction() as connection:
            # https://www.postgresql.org/docs/current/sql-explain.html
            explain = sa.text(f"EXPLAIN (FORMAT JSON) SELECT FROM {table.fullname} WHERE cluster = :cluster")
            [node] = connection.execute(explain, {"cluster": cluster}).scalar_one()
            rows: int = node["Plan"]["Plan Rows"]
            if rows < 100_000:
                counted = sa.select(sa.func.count()).select_from(table).where(table.c.cluster == cluster)
                rows = connection.execute(counted).scalar_one()
            return rows
