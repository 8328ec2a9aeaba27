"""The target PostgreSQL: its engine, and transactions whose errors say what to change."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import sqlalchemy as sa
from pydantic import BaseModel, Field, PrivateAttr

from qupersync_assets.core.errors import sync_error
from qupersync_assets.core.redaction import redacted


@contextmanager
def postgres_errors(doing: str) -> Iterator[None]:
    """Turn errors of the driver and of SQLAlchemy into a SyncError that starts with `doing`."""
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError, psycopg2.Error) as error:
        raise sync_error(error, "POSTGRES", doing) from redacted(error)


class PostgresResource(BaseModel):
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
                sa.URL.create("postgresql+psycopg2", self.user, self.password, self.host, self.port, self.database),
                pool_size=2,
                pool_pre_ping=True,
                hide_parameters=True,  # parameters are customers' data
                connect_args={
                    "sslmode": self.sslmode,
                    "connect_timeout": self.connect_timeout,
                    # Notice within minutes that the server disappeared.
                    "keepalives_idle": 60,
                    "keepalives_interval": 10,
                    "keepalives_count": 3,
                    "tcp_user_timeout": 90_000,
                    "application_name": "qupersync",
                    # The server ends the session of a client that disappeared, and releases its locks.
                    "options": f"-c timezone=UTC -c statement_timeout={self.statement_timeout * 1000} "
                    "-c tcp_keepalives_idle=60 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
                },
            )
        return self._engine

    def dispose(self) -> None:
        """Close the pooled connections."""
        if self._engine is not None:
            self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A connection in a transaction that is committed at the end, or rolled back by an error.

        Raises:
            SyncError: PostgreSQL cannot be reached, or refuses the login or a statement.
        """
        doing = f"PostgreSQL at {self.host}:{self.port} failed"
        with postgres_errors(doing), self.engine().begin() as connection:
            yield connection

    def count_rows(self, table: sa.Table, cluster: str) -> int:
        """Return the number of rows of a cluster in a target table; above 100,000 the planner's estimate."""
        with self.transaction() as connection:
            # https://www.postgresql.org/docs/current/sql-explain.html
            explain = sa.text(f"EXPLAIN (FORMAT JSON) SELECT FROM {table.fullname} WHERE cluster = :cluster")
            [node] = connection.execute(explain, {"cluster": cluster}).scalar_one()
            rows: int = node["Plan"]["Plan Rows"]
            if rows < 100_000:
                counted = sa.select(sa.func.count()).select_from(table).where(table.c.cluster == cluster)
                rows = connection.execute(counted).scalar_one()
            return rows
