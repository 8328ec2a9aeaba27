"""Known rows: recognises the rows of a snapshot that the target has, without writing them to the server.

The target's rows are read once a load, in the binary format in which Redshift sends them. A page whose rows are all
among them is unchanged, unless the load has written other rows with the same keys. The keys of such pages are recorded
only if the snapshot has lost a row.
"""

import io
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa

from qupersync_assets.core.sql import quote_identifier as quote
from qupersync_assets.postgres.direct_copy import CopiedRows
from qupersync_assets.postgres.merge import record_keys_statements
from qupersync_assets.postgres.staging import Staging
from qupersync_assets.rows.coercion import key_inputs
from qupersync_assets.rows.page import RawPage, copy_binary
from qupersync_assets.spec import SyncSpec


class KnownRows:
    """The rows of a snapshot that the target had at the start of a load: those of one cluster, and of one of its
    databases if the source shows one at a time.

    Attributes:
        staging: the staging table for the raw rows of the source.
    """

    def __init__(
        self, connection: sa.Connection, spec: SyncSpec, cluster: str, database: str, staging: Staging
    ) -> None:
        """Read the rows.

        Raises:
            psycopg2.Error: a value of the target does not exist in the type in which the source sends it.
        """
        self._spec = spec
        self._cluster = cluster
        self._database = database
        self.staging = staging
        self._known = {_digest(body) for body in self._bodies(connection)}
        self._unread = set(self._known)
        self._compared: set[bytes] = set()
        self._written: set[tuple[Any, ...]] = set()  # keys of other rows, which the target may have got since

    @property
    def has_unread(self) -> bool:
        """Whether a row of the target was in no page so far."""
        return bool(self._unread)

    def include(self, page: RawPage) -> bool:
        """Return whether the target still has all rows of a page, and the page none of them twice."""
        if not self._known:
            return False
        digests = list(map(_digest, page.bodies))
        distinct = set(digests)
        self._unread -= distinct
        others = [n for n, digest in enumerate(digests) if digest not in self._known]
        if others:
            self._written.update(key_inputs(self._spec, page.take(others)))
        if others or len(distinct) < len(page):
            return False
        if self._written and not self._written.isdisjoint(key_inputs(self._spec, page)):
            return False
        self._compared |= distinct
        return True

    def record_keys(self, connection: sa.Connection) -> None:
        """Record the keys of the rows of known pages in the temporary table of the keys that were read."""
        if not self._compared:
            return
        bodies = [body for body in self._bodies(connection) if _digest(body) in self._compared]
        connection.execute(sa.text(self.staging.definition))
        cursor: Any = connection.connection.cursor()
        with cursor:
            cursor.copy_expert(self.staging.copy("binary"), io.BytesIO(copy_binary(bodies)), 1 << 20)
        for statement in record_keys_statements(self._spec, self.staging):
            connection.execute(sa.text(statement))

    def _bodies(self, connection: sa.Connection) -> Iterator[bytes]:
        """Yield the target's rows that are not removed, as bodies of DataRow messages."""
        values = ", ".join(_as_received(quote(name), type_) for name, type_ in self.staging.types.items())
        where, parameters = "cluster = %s AND removed_at IS NULL", [self._cluster]
        if self._database:
            where += f" AND {quote(self._spec.database_column or '')} = %s"
            parameters.append(self._database)
        rows = CopiedRows()
        cursor: Any = connection.connection.cursor()
        with cursor:
            select = cursor.mogrify(f"SELECT {values} FROM {self._spec.table.fullname} WHERE {where}", parameters)
            cursor.copy_expert(f"COPY ({select.decode()}) TO STDOUT (FORMAT binary)", rows)
        yield from rows.bodies()


def _as_received(name: str, type_: str) -> str:
    """Return the SQL that gives a value of the target in the type in which the source sends it."""
    return f"{name} AT TIME ZONE 'UTC'" if type_ == "timestamp" else f"{name}::{type_}"


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).digest()
