"""Rows that come over the wire with the very bytes that the target holds.

A page of a history that is known is recognised by its bytes, and one that is new is copied straight into the
target: neither needs a temporary table. This is for pages that are wholly the one or the other; `merge` does
the rest.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from qupersync_assets.core.sql import quote_identifier as quote
from qupersync_assets.postgres.staging import NeedsCoercion, Staging, ddl
from qupersync_assets.rows.page import COPY_END, COPY_HEADER, RawPage
from qupersync_assets.spec import SyncSpec

# Both are microseconds since 2000, in UTC.
_TIMES = dict.fromkeys(("timestamp", "timestamptz"), "timestamp with time zone")
_COUNT, _LENGTH = struct.Struct("!h"), struct.Struct("!i")
_VALUES_OF = itemgetter(slice(_COUNT.size, None))


class DirectCopy:
    """Of one cluster in the table of a history."""

    def __init__(self, spec: SyncSpec, cluster: str, staging: Staging) -> None:
        """
        Args:
            staging: that of the wire, whose types are those of the table.
        """
        names, table = ", ".join(map(quote, staging.types)), spec.table.fullname
        self._time = str(spec.time_column)
        self._cluster = cluster
        # After a page that was new the next one probably is: no need to look.
        self._are_new = False
        encoded = cluster.encode()
        self._head = _COUNT.pack(len(staging.types) + 1) + _LENGTH.pack(len(encoded)) + encoded
        self._known = (
            f"COPY (SELECT {names} FROM {table} WHERE cluster = %s "
            f"AND {quote(self._time)} BETWEEN %s AND %s LIMIT %s) TO STDOUT (FORMAT binary)"
        )
        self._insert = (
            f"COPY {table} (cluster, {names}) FROM STDIN (FORMAT binary) "
            f"WHERE ({staging.needs_coercion}) IS NOT TRUE"
        )

    def load(self, connection: sa.Connection, page: RawPage) -> int:
        """Write a page into the table; return the number of inserted rows: all or none.

        Raises:
            NeedsCoercion: some rows of the page are known and others are new, or a value needs coercion.
            psycopg2.Error: PostgreSQL refuses a row, for example because its key is known.
        """
        cursor: Any = connection.connection.cursor()
        with cursor:
            known = () if self._are_new else self._rows_between(cursor, page)
            self._are_new = False
            if not known:
                cursor.copy_expert(self._insert, io.BytesIO(self._with_cluster(page.bodies)), 1 << 20)
                if cursor.rowcount != len(page):
                    raise NeedsCoercion
                self._are_new = True
                return len(page)
        if known != page.bodies and not _are_among(page.bodies, known):
            raise NeedsCoercion
        return 0

    def _rows_between(self, cursor: Any, page: RawPage) -> list[bytes]:
        """The table's rows from the time of a page's first row to that of its last, as bytes of the wire; not
        many more than the page has."""
        first, last = page.ends(self._time)
        if first is None or last is None:
            raise NeedsCoercion
        rows = _Rows()
        limit = 2 * len(page)
        statement = cursor.mogrify(self._known, (self._cluster, first, last, limit)).decode()
        cursor.copy_expert(statement, rows)
        return rows.found()

    def _with_cluster(self, bodies: Sequence[bytes]) -> bytes:
        """Rows as COPY's binary format, each with the cluster before its values."""
        # What is between two rows is also before the first.
        return self._head.join([COPY_HEADER, *map(_VALUES_OF, bodies)]) + COPY_END


def direct_copy(spec: SyncSpec, cluster: str, staging: Staging) -> DirectCopy | None:
    """Those of a history whose rows come with the types of its table, else None."""
    is_alike = all(
        _TIMES.get(staging.types[c.name], staging.types[c.name]) == ddl(c).lower() for c in spec.columns
    )
    return DirectCopy(spec, cluster, staging) if spec.time_column and is_alike else None


def _are_among(bodies: Sequence[bytes], known: Sequence[bytes]) -> bool:
    """Whether all rows are known, and different: of two with one key only one may count."""
    different = set(bodies)
    return len(different) == len(bodies) and different.issubset(known)


class _Rows:
    """Takes what COPY sends: a message a row, with the header before the first, and the end."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []
        self.write = self._messages.append

    def found(self) -> list[bytes]:
        self._messages[0] = self._messages[0].removeprefix(COPY_HEADER)
        return self._messages[:-1]
