"""Direct copy: load raw pages of a history without a staging table, if they have the types of the target.

A page of new rows is copied into the target. A page of known rows is compared with the bytes of the target.
A page with both is merged.
"""

import io
import struct
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from qupersync_assets.core.sql import quote_identifier as quote
from qupersync_assets.postgres.staging import NeedsCoercion, Staging, ddl
from qupersync_assets.rows.page import COPY_END, COPY_HEADER, RawPage
from qupersync_assets.spec import SyncSpec

# The binary format of both is microseconds since 2000, in UTC.
_TIMES = dict.fromkeys(("timestamp", "timestamptz"), "timestamp with time zone")
_COUNT, _LENGTH = struct.Struct("!h"), struct.Struct("!i")
_VALUES_OF = itemgetter(slice(_COUNT.size, None))


class DirectCopy:
    """The direct copy of one cluster's rows into the table of a history, whose types the staging table has."""

    def __init__(self, spec: SyncSpec, cluster: str, staging: Staging) -> None:
        names, table = ", ".join(map(quote, staging.types)), spec.table.fullname
        self._time = str(spec.time_column)
        self._cluster = cluster
        # The page after a page of new rows is probably new, too: it is copied without a comparison.
        self._expects_new = False
        encoded = cluster.encode()
        self._head = _COUNT.pack(len(staging.types) + 1) + _LENGTH.pack(len(encoded)) + encoded
        self._known = (
            f"COPY (SELECT {names} FROM {table} WHERE cluster = %s "
            f"AND {quote(self._time)} BETWEEN %s AND %s LIMIT %s) TO STDOUT (FORMAT binary)"
        )
        self._insert = (
            f"COPY {table} (cluster, {names}) FROM STDIN (FORMAT binary) WHERE ({staging.needs_coercion}) IS NOT TRUE"
        )

    def load(self, connection: sa.Connection, page: RawPage) -> int:
        """Write a page into the table; return the number of inserted rows: all or none.

        Raises:
            NeedsCoercion: some rows of the page are known and others are new, or a value needs coercion.
            psycopg2.Error: PostgreSQL refuses a row, for example because its key is known.
        """
        cursor: Any = connection.connection.cursor()
        with cursor:
            known = () if self._expects_new else self._rows_between(cursor, page)
            self._expects_new = False
            if not known:
                cursor.copy_expert(self._insert, io.BytesIO(self._with_cluster(page.bodies)), 1 << 20)
                if cursor.rowcount != len(page):
                    raise NeedsCoercion
                self._expects_new = True
                return len(page)
        if known != page.bodies:
            distinct = set(page.bodies)
            if len(distinct) < len(page) or not distinct.issubset(known):  # the merge counts duplicates
                raise NeedsCoercion
        return 0

    def _rows_between(self, cursor: Any, page: RawPage) -> list[bytes]:
        """Return the target's rows between the times of a page's first and last row, at most twice as many as
        the page has, as bodies of DataRow messages."""
        first, last = page.ends(self._time)
        if first is None or last is None:
            raise NeedsCoercion
        rows = _CopiedRows()
        statement = cursor.mogrify(self._known, (self._cluster, first, last, 2 * len(page))).decode()
        cursor.copy_expert(statement, rows)
        rows[0] = rows[0].removeprefix(COPY_HEADER)
        return rows[:-1]

    def _with_cluster(self, bodies: Sequence[bytes]) -> bytes:
        """Return rows in COPY's binary format, each with the cluster before its values."""
        # The first row, too, follows a separator: the header is the item before it.
        return self._head.join([COPY_HEADER, *map(_VALUES_OF, bodies)]) + COPY_END


def direct_copy(spec: SyncSpec, cluster: str, staging: Staging) -> DirectCopy | None:
    """Return the direct copy of a history whose received types are those of its table, else None."""
    has_target_types = spec.time_column and not other_types(spec, staging.types)
    return DirectCopy(spec, cluster, staging) if has_target_types else None


def other_types(spec: SyncSpec, types: Mapping[str, str]) -> list[str]:
    """Return the columns whose received types are not those of the table, each with both types."""
    received = {c.name: types.get(c.name, "missing") for c in spec.columns}
    wanted = {c.name: ddl(c).lower() for c in spec.columns}
    return [f"{n} is {t}, not {wanted[n]}" for n, t in received.items() if _TIMES.get(t, t) != wanted[n]]


class _CopiedRows(list[bytes]):
    """A file for COPY TO: one message per row, the first with the header, and one for the end."""

    write = list.append
