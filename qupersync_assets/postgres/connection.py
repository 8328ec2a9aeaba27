"""The one place that opens a connection to PostgreSQL: the SQLAlchemy dialect `postgresql+qupersync`.

The engine of the target uses it, and so does the storage of Dagster, in processes that import nothing else of
QuperSync. Settings are pinned by a statement, because poolers refuse startup `options`.
"""

import ctypes
import os
import re
import select
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from types import MappingProxyType
from typing import Any

import click
import psycopg2
import psycopg2._psycopg
import sqlalchemy as sa
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from qupersync_assets.core.environment import current_secret, current_value, env_file_hint
from qupersync_assets.core.errors import sqlstate
from qupersync_assets.core.sql import quote_identifier
from qupersync_assets.postgres.kept_connections import keep, open_connection, take
from qupersync_assets.settings.errors import SettingsError
from qupersync_assets.settings.postgres import PostgresSettings, StorageSettings

URL = "postgresql+qupersync://"

# Settings that change the meaning of statements or values; _search_path adds the path of schemas.
PINNED = MappingProxyType(
    {
        "client_encoding": "UTF8",
        "TimeZone": "UTC",
        "default_transaction_isolation": "read committed",
        "DateStyle": "ISO, MDY",
        "IntervalStyle": "postgres",
        "standard_conforming_strings": "on",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "array_nulls": "on",
        "transform_null_equals": "off",
        "quote_all_identifiers": "off",
        "exit_on_error": "off",
        # The server ends the session of a client that disappeared, and releases its locks.
        "tcp_keepalives_idle": "60",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }
)

_BACKEND = "SELECT pg_catalog.pg_backend_pid()"
# Two sessions are compared so often, because other clients of a pooler take backends too.
_COMPARISONS = 4
# The servers whose sessions were found to keep their backend, by host, port, database and user.
_sessions_kept: set[tuple[Any, ...]] = set()


class ConnectError(psycopg2.OperationalError):  # type: ignore[misc]  # psycopg2 has no types
    """A failed connection, with the SQLSTATE that psycopg2 leaves out."""

    pgcode: str | None = None  # read-only in psycopg2


class StorageError(SettingsError, click.ClickException):
    """POSTGRES_* do not describe the storage of Dagster. Commands of Dagster show the text, without a traceback."""

    def __init__(self, error: SettingsError) -> None:
        hinted = error.with_hint(env_file_hint())
        SettingsError.__init__(self, hinted.lines)
        click.ClickException.__init__(self, str(hinted))


class UnsupportedServer(psycopg2.NotSupportedError):  # type: ignore[misc]
    """The server, or the pooler before it, cannot be used as it is configured; the text says what to change."""


class Dialect(PGDialect_psycopg2):
    """psycopg2 with pinned settings, the connection of POSTGRES_*, and errors that have a SQLSTATE."""

    supports_statement_cache = True

    def __init__(
        self, postgres: PostgresSettings | None = None, session: Mapping[str, str] = MappingProxyType({}), **more: Any
    ) -> None:
        # No table has an hstore, whose number SQLAlchemy would ask for at each connection.
        super().__init__(**{"use_native_hstore": False, **more})  # type: ignore[no-untyped-call]
        self._postgres = postgres
        self._session = {**PINNED, **session}

    def create_connect_args(self, url: sa.URL) -> Any:
        """Return the parameters of libpq: those of the settings, or of the environment and the URL."""
        if self._postgres is not None:
            return (), self._postgres.libpq()
        query = dict(url.query)
        names = {"sslmode": "postgres_sslmode", "sslrootcert": "postgres_ssl_ca"}
        given: dict[str, Any] = {names[name]: query.pop(name) for name in names if name in query}
        if url.host:  # no part of it is mixed with that of another server
            given |= {"postgres_host": f"[{url.host}]" if ":" in url.host else url.host}
            given |= {"postgres_port": url.port or 5432, "postgres_database": url.database}
            given |= {"postgres_user": url.username, "postgres_password": url.password}
        try:
            return (), {**StorageSettings.load(**given).libpq(), **query}
        except SettingsError as error:
            raise StorageError(error) from None

    def connect(self, *_: Any, **parameters: Any) -> Any:
        """Open a connection and pin its settings, or return one that Dagster's storage has closed.

        Raises:
            psycopg2.Error: PostgreSQL cannot be reached, refuses the login, or is not supported.
        """
        parameters = _current(parameters)
        if self._postgres is None and (kept := take(parameters)):
            return kept
        connection = _open(parameters)
        try:
            connection.set_client_encoding("UTF8")
            database = connection.info.dbname
            if (encoding := connection.get_parameter_status("server_encoding")) != "UTF8":
                raise UnsupportedServer(
                    f"Database {database} has the encoding {encoding}: create it again WITH ENCODING 'UTF8'"
                )
            connection.autocommit = True
            _check_pooler(connection, parameters)
            pinned = {**self._session, **_search_path(connection, is_target=self._postgres is not None)}
            settings = ", ".join(["pg_catalog.set_config(%s, %s, false)"] * len(pinned))
            _scalar(connection, f"SELECT {settings}", [part for pair in pinned.items() for part in pair])
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection

    def do_close(self, dbapi_connection: Any) -> None:
        """Close a connection; one of Dagster's storage is kept for its next query."""
        # The end of a session of the target releases its locks.
        if self._postgres is not None or not keep(dbapi_connection):
            super().do_close(dbapi_connection)  # type: ignore[no-untyped-call]


def _current(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with the user and the password that their file has now, if they are from there."""
    now = {}
    if parameters.get("password") and parameters["password"] == os.environ.get("POSTGRES_PASSWORD"):
        now["password"] = current_secret("POSTGRES_PASSWORD")
    if parameters.get("user") == os.environ.get("POSTGRES_USER", "").strip():
        now["user"] = (current_value("POSTGRES_USER") or "").strip()
    return {**parameters, **now}


def _search_path(connection: Any, *, is_target: bool) -> dict[str, str]:
    """Return the setting that lets no object hide one of the system's, or a temporary table of the target.

    The schemas that the role has now follow: the first is that of Dagster's tables, and triggers may use them.
    https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-SEARCH-PATH
    """
    system = "pg_catalog", "pg_temp"
    found = _scalar(connection, "SELECT pg_catalog.current_schemas(false)")
    others = [quote_identifier(name) for name in found if not name.startswith(system)]
    path = [*system, *others] if is_target else others  # pg_catalog is searched first unless the path names it
    return {"search_path": ", ".join(path)} if path else {}


def is_pooled(connection: Any) -> bool:
    """Return whether a connection of psycopg2 leads to a pooler: the server's process is not the announced one."""
    return bool(_scalar(connection, _BACKEND) != connection.get_backend_pid())


def _check_pooler(connection: Any, parameters: Mapping[str, Any]) -> None:
    """Raise UnsupportedServer if a pooler gives the backend of one session to another one."""
    server = tuple(parameters.get(name) for name in ("host", "port", "dbname", "user"))
    if server in _sessions_kept:
        return
    if is_pooled(connection):
        with closing(_open(parameters)) as other:
            other.autocommit = True
            own = _scalar(connection, _BACKEND)
            for comparison in range(_COMPARISONS):
                # One more statement each time: backends in rotation would return to their sessions.
                others = {_scalar(other, _BACKEND) for _ in range(comparison + 1)}
                if own in others or len(others) > 1 or _scalar(connection, _BACKEND) != own:
                    raise UnsupportedServer(
                        f"A pooler such as PgBouncer at port {parameters['port']} shares sessions in transaction mode, "
                        "and locks, temporary tables and settings get lost: set pool_mode = session for this "
                        "database, or set POSTGRES_HOST and POSTGRES_PORT to the server itself"
                    )
    _sessions_kept.add(server)


def _scalar(connection: Any, statement: str, values: list[str] | None = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()[0]


def _open(parameters: Mapping[str, Any]) -> Any:
    try:
        return open_connection(parameters)
    except (psycopg2.OperationalError, UnicodeDecodeError) as error:
        failure = ConnectError(_text(error))
    if sqlstate(failure) is None and "timeout expired" not in str(failure):
        verbose = _verbose_refusal(parameters)
        # A severity may be translated.
        codes: list[str] = re.findall(r":  ([0-9A-Z]{5}): ", verbose)
        # Some versions of Python, 3.11.2 among them, drop a message that is not UTF-8.
        failure = (
            failure if str(failure) else ConnectError(re.sub(r"(:  )[0-9A-Z]{5}: |\nLOCATION: .*", r"\1", verbose))
        )
        failure.pgcode = codes[-1] if codes else None
    raise failure


def _text(error: psycopg2.Error | UnicodeDecodeError) -> str:
    """Return the message of an error, also if the server sent it in another encoding than UTF-8."""
    return error.object.decode("utf-8", "replace") if isinstance(error, UnicodeDecodeError) else str(error)


def _verbose_refusal(parameters: Mapping[str, Any]) -> str:
    """Connect again, and return the message with which the server refuses, with its SQLSTATE; "" if it does not answer.

    libpq shows the SQLSTATE only in verbose messages, which a connection can request after it was begun. psycopg2 gives
    out the connection for such calls: https://www.psycopg.org/docs/connection.html#connection.pgconn_ptr.
    """
    libpq = ctypes.CDLL(psycopg2._psycopg.__file__)
    libpq.PQsetErrorVerbosity.argtypes = [ctypes.c_void_p, ctypes.c_int]
    libpq.PQerrorMessage.argtypes, libpq.PQerrorMessage.restype = [ctypes.c_void_p], ctypes.c_char_p
    deadline = time.monotonic() + parameters["connect_timeout"]
    with suppress(psycopg2.Error), closing(psycopg2.connect(**parameters, async_=True)) as connection:
        libpq.PQsetErrorVerbosity(connection.pgconn_ptr, 2)  # PQERRORS_VERBOSE
        try:
            while (state := connection.poll()) != POLL_OK:
                readers, writers = ([connection] if state == wanted else [] for wanted in (POLL_READ, POLL_WRITE))
                if not any(select.select(readers, writers, [], max(0.0, deadline - time.monotonic()))):
                    break
        except (psycopg2.Error, UnicodeDecodeError):
            message: bytes = libpq.PQerrorMessage(connection.pgconn_ptr)
            return message.decode("utf-8", "replace")
    return ""
