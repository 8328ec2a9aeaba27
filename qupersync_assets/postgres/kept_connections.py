"""Keeps closed connections of Dagster's storage open for the next query of the process.

The storage opens a connection for each query otherwise: some hundred in a tick, each with a login and pinned settings.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as _Base

# Threads of the daemon overlap; one that is not needed is closed at the next query after a minute.
_COUNT, _SECONDS = 2, 60.0
# So soon after its last answer a server is not asked again whether it is there.
_TRUSTED_SECONDS = 2.0
_Key = tuple[int, frozenset[tuple[str, Any]]]
_kept: dict[_Key, list[tuple[float, KeptConnection]]] = defaultdict(list)
_lock = threading.Lock()


class KeptConnection(_Base):  # type: ignore[misc]  # psycopg2 has no types
    """A connection that `keep` keeps open, and `take` returns."""

    key: _Key


def open_connection(parameters: Mapping[str, Any]) -> KeptConnection:
    """Open a connection that can be kept.

    Raises:
        psycopg2.Error: PostgreSQL cannot be reached, or refuses the login.
    """
    connection: KeptConnection = psycopg2.connect(**parameters, connection_factory=KeptConnection)
    connection.key = _key(parameters)
    return connection


def keep(connection: Any) -> bool:
    """Keep a connection for `take`, instead of closing it; return False if it cannot be kept."""
    if not isinstance(connection, KeptConnection) or connection.closed:
        return False
    if connection.info.transaction_status != TRANSACTION_STATUS_IDLE or connection.key[0] != os.getpid():
        return False
    with _lock:
        if is_kept := len(_kept[connection.key]) < _COUNT:
            _kept[connection.key].append((time.monotonic(), connection))
    return is_kept


def take(parameters: Mapping[str, Any]) -> KeptConnection | None:
    """Return a kept connection with these parameters that still answers, or None."""
    key = _key(parameters)
    while True:
        with _lock:
            if not _kept[key]:
                return None
            since, connection = _kept[key].pop()
        idle = time.monotonic() - since
        if idle < _SECONDS and not _is_ended(connection) and (idle < _TRUSTED_SECONDS or _answers(connection)):
            return connection
        connection.close()


def close_kept() -> None:
    """Close the kept connections of this process, for example before their database is dropped."""
    with _lock:
        for key in [key for key in _kept if key[0] == os.getpid()]:
            for _, connection in _kept.pop(key):
                connection.close()


def _key(parameters: Mapping[str, Any]) -> _Key:
    # A forked process must not use connections of its parent, nor close them.
    return os.getpid(), frozenset(parameters.items())


def _is_ended(connection: KeptConnection) -> bool:
    """Return whether the server has sent something: to an idle session it sends its end only."""
    return bool(select.select([connection.fileno()], [], [], 0)[0])


def _answers(connection: KeptConnection) -> bool:
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.autocommit = False
    except psycopg2.Error:
        return False
    return True
