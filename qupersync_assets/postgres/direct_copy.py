"""Direct copy: load raw pages of a history without a staging table, if they have the types of the target.

A page of new rows is copied into the target. A page of known rows is compared with the bytes of the target.
A page with both is merged. Few rows that are neither are left to the caller: they may be invalid.
"""

import io
import struct
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from qupersync_assets.core.sql import quote_identifier as quote
from qupersync_assets.postgres.staging import NeedsCoercion, Staging, ddl
from qupersync_assets.rows.page import COPY_END, COPY_HEADER, RawPage, copy_binary
from qupersync_assets.spec import SyncSpec

# The binary format of both is microseconds since 2000, in UTC.
_TIMES = dict.fromkeys(("timestamp", "timestamptz"), "timestamp with time zone")
_COUNT, _LENGTH = struct.Struct("!h"), struct.Struct("!i")
_VALUES_OF = itemgetter(slice(_COUNT.size, None))
# Up to one row of so many is given back; a page with more unknown rows is probably one with new rows.
_FEW = 10


class DirectCopy:
    """The direct copy of one cluster's rows into the table of a history, whose types the staging table has."""

    def __init__(self, spec: SyncSpec, cluster: str, staging: Staging) -> None:
        names, table = ", ".join(map(quote, staging.types)), spec.table.fullname
        self._time = str(spec.time_column)
        self._cluster = cluster
        self._staging = staging
        # The page after a page of new rows is probably new, too: it is copied without a comparison.
        self._expects_new = False
        encoded = cluster.encode()
        self._head = _COUNT.pack(len(staging.types) + 1) + _LENGTH.pack(len(encoded)) + encoded
        self._known = (
            f"COPY (SELECT {names} FROM {table} WHERE cluster = (SELECT %s) "  # see merge.py
            f"AND {quote(self._time)} BETWEEN %s AND %s LIMIT %s) TO STDOUT (FORMAT binary)"
        )
        self._insert = (
            f"COPY {table} (cluster, {names}) FROM STDIN (FORMAT binary) WHERE ({staging.needs_coercion}) IS NOT TRUE"
        )

    def load(self, connection: sa.Connection, page: RawPage) -> tuple[int, Sequence[bytes]]:
        """Write a page into the table; return the number of inserted rows, and the rows that were left out.

        Raises:
            NeedsCoercion: some rows of the page are known and many others are not, or a row occurs twice.
            psycopg2.Error: PostgreSQL refuses a row, for example because its key is known.
        """
        cursor: Any = connection.connection.cursor()
        with cursor:
            known = () if self._expects_new else self._rows_between(cursor, page)
            self._expects_new = False
            if not known:
                cursor.copy_expert(self._insert, io.BytesIO(self._with_cluster(page.bodies)), 1 << 20)
                inserted = cursor.rowcount
                left_out = self._invalid(cursor, page) if inserted != len(page) else ()
                self._expects_new = True
                return inserted, left_out
        if known == page.bodies:
            return 0, ()
        known_rows = set(known)
        left_out = [body for body in page.bodies if body not in known_rows]
        # The merge counts duplicates.
        if len(left_out) > len(page) // _FEW or len(set(page.bodies)) < len(page):
            raise NeedsCoercion
        return 0, left_out

    def _invalid(self, cursor: Any, page: RawPage) -> Sequence[bytes]:
        """Return the rows of a page that the COPY into the table left out."""
        cursor.execute(self._staging.definition)
        cursor.copy_expert(self._staging.copy("binary"), io.BytesIO(copy_binary(page.bodies)), 1 << 20)
        cursor.execute(self._staging.invalid_rows)
        return [page.bodies[position] for (position,) in cursor]

    def _rows_between(self, cursor: Any, page: RawPage) -> list[bytes]:
        """Return the target's rows between the times of a page's first and last row, at most twice as many as
        the page has, as bodies of DataRow messages."""
        first, last = page.ends(self._time)
        if first is None or last is None:
            raise NeedsCoercion
        rows = CopiedRows()
        statement = cursor.mogrify(self._known, (self._cluster, first, last, 2 * len(page))).decode()
        cursor.copy_expert(statement, rows)
        return rows.bodies()

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


class CopiedRows(list[bytes]):
    """A file for COPY TO in binary format: one message per row, the first with the header, and one for the end."""

    write = list.append

    def bodies(self) -> list[bytes]:
        """Return the rows as bodies of DataRow messages."""
        self[0] = self[0].removeprefix(COPY_HEADER)
        return self[:-1]
