"""Batches into a target table, in the quickest way that can take the whole batch.

Rows as they came over the wire are in the target already, or are copied straight into it; else they are
copied into a temporary table, and merged by one INSERT ... ON CONFLICT DO UPDATE. A batch of which PostgreSQL
refuses a row, has a doubt, or finds a key twice, is decoded and coerced by `transform`, which alone judges
rows.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import sqlalchemy as sa
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from qupersync_assets.core.errors import ErrorClass, classify, message
from qupersync_assets.postgres.advisory_lock import JobConnection
from qupersync_assets.postgres.direct_copy import StoredRows, stored_rows
from qupersync_assets.postgres.merge import merge_statement, remember_statements, removal_statement
from qupersync_assets.postgres.staging import Doubt, Staging, coerced, undecoded
from qupersync_assets.redshift.wire_protocol import AnyPage, UndecodedPage, copy_binary
from qupersync_assets.rows.coercion import Counts, Rejected, Row, transform
from qupersync_assets.spec.sync_spec import SyncSpec

_NEEDS_ESCAPE = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_AT_COLUMN = re.compile(r"column (\w+):")

# The first retry of a batch waits up to so long, further ones up to twice as long each.
RETRY_SECONDS = 0.5

# Something to do within a batch's transaction with its totals and its rejected rows.
Load = Callable[[sa.Connection, Counts, list[Rejected]], None]
# What can take rows as they come over the wire, if anything can.
_Ways = tuple[Staging | None, StoredRows | None]


class BatchWriter:
    """Writes the batches of one load, each in one transaction of its own.

    Attributes:
        counts: what became of the rows of all committed batches.
    """

    def __init__(self, target: JobConnection, spec: SyncSpec, finish: Load) -> None:
        """
        Args:
            target: the load's connection; it is replaced when it is lost.
            finish: called within each batch's transaction with the totals and the rejected rows, so that what
                it writes is committed or rolled back with the batch.
        """
        self.counts = Counts()
        self._target = target
        self._spec = spec
        self._first_opened = target.opened
        self._finish = finish
        self._coerced = coerced(spec)
        self._merges: dict[str, sa.TextClause] = {}
        self._undecoded: dict[tuple[tuple[str, ...], tuple[str, ...]], _Ways] = {}

    def write(self, page: AnyPage) -> list[Rejected]:
        """Merge one batch; a row that cannot be loaded for its data is rejected, alone.

        Returns:
            The rejected rows of the batch: those that `transform` refuses and those that PostgreSQL refuses.

        Raises:
            sqlalchemy.exc.DBAPIError, psycopg2.Error: an error that is no row's fault; a transient one has
                been tried five times. The batch is rolled back then, earlier ones stay.
            LoadError: the page makes no sense.
        """
        for attempt in Retrying(
            stop=stop_after_attempt(5),
            wait=wait_random_exponential(multiplier=RETRY_SECONDS, max=10 * RETRY_SECONDS),
            retry=retry_if_exception(lambda e: classify(e) is ErrorClass.TRANSIENT),
            reraise=True,
        ):
            with attempt:
                return self._write(page)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def mark_removed(self, connection: sa.Connection) -> None:
        """After the last batch of a snapshot: mark the rows that the source no longer holds.

        Not after a read that was empty, for that is what missing rights look like, or of which rows were
        skipped or the session was replaced, for it is not known then what the source holds.
        """
        whole = self.counts.extracted and not self.counts.skipped
        if self._spec.kind == "snapshot" and whole and self._target.opened == self._first_opened:
            statement = sa.text(removal_statement(self._spec))
            self.counts.removed = connection.execute(statement, {"cluster": self._target.cluster}).rowcount

    def _write(self, page: AnyPage) -> list[Rejected]:
        size = len(page)
        for load in self._undecoded_loads(page) if isinstance(page, UndecodedPage) else ():
            try:
                return self._transaction(size, [], load)
            except Exception as error:
                if not isinstance(error, Doubt) and classify(error) is not ErrorClass.ROW:
                    raise
        rows, rejected = transform(self._spec, page.decoded())
        try:
            return self._transaction(size, rejected, partial(self._merge_rows, rows))
        except Exception as error:
            if classify(error) is not ErrorClass.ROW:
                raise
        return self._transaction(size, rejected, partial(self._split, rows))

    def _undecoded_loads(self, page: UndecodedPage) -> Iterator[Load]:
        """What may load a page as it is, the quickest first."""
        come = page.columns, tuple(t.name for t in page.types)
        if come not in self._undecoded:
            staging = undecoded(self._spec, *come)
            stored = stored_rows(self._spec, self._target.cluster, staging) if staging else None
            self._undecoded[come] = staging, stored
        staging, stored = self._undecoded[come]
        if stored:
            yield partial(self._store, stored, page)
        if staging:
            yield partial(self._merge, staging, "binary", copy_binary(page.bodies), len(page))

    def _store(
        self,
        stored: StoredRows,
        page: UndecodedPage,
        connection: sa.Connection,
        counts: Counts,
        _rejected: list[Rejected],
    ) -> None:
        inserted = stored.load(connection, page)
        counts.inserted += inserted
        counts.unchanged += len(page) - inserted

    def _transaction(self, size: int, rejected: Sequence[Rejected], load: Load) -> list[Rejected]:
        counts, all_rejected = replace(self.counts), list(rejected)
        counts.extracted += size
        counts.batches += 1
        with self._target.begin() as connection:
            load(connection, counts, all_rejected)
            counts.skipped += len(all_rejected)
            self._finish(connection, counts, all_rejected)
        self.counts = counts
        return all_rejected

    def _split(
        self, rows: Sequence[Row], connection: sa.Connection, counts: Counts, rejected: list[Rejected]
    ) -> None:
        """Merge the rows in halves, and halves of halves, until those that are refused are alone."""
        try:
            with connection.begin_nested():
                trial = replace(counts)
                self._merge_rows(rows, connection, trial, rejected)
                connection.execute(sa.text(f"TRUNCATE {self._coerced.name}"))
                vars(counts).update(vars(trial))
        except Exception as error:
            if classify(error) is not ErrorClass.ROW:
                raise
            if len(rows) == 1:
                rejected.append(self._refused(rows[0], error))
                return
            middle = len(rows) // 2
            self._split(rows[:middle], connection, counts, rejected)
            self._split(rows[middle:], connection, counts, rejected)

    def _merge_rows(
        self, rows: Sequence[Row], connection: sa.Connection, counts: Counts, rejected: list[Rejected]
    ) -> None:
        if rows:
            self._merge(self._coerced, "text", copy_text(rows), len(rows), connection, counts, rejected)

    def _merge(
        self,
        staging: Staging,
        form: str,
        data: bytes,
        size: int,
        connection: sa.Connection,
        counts: Counts,
        _rejected: list[Rejected],
    ) -> None:
        connection.execute(sa.text(staging.definition))
        cursor: Any = connection.connection.cursor()
        with cursor:
            cursor.copy_expert(staging.copy(form), io.BytesIO(data), 1 << 20)
        merge = self._merges.get(staging.name)
        if merge is None:
            merge = self._merges[staging.name] = sa.text(merge_statement(self._spec, staging))
        keys, inserted, updated, in_doubt = connection.execute(merge, {"cluster": self._target.cluster}).one()
        if in_doubt:
            raise Doubt
        if self._spec.kind == "snapshot":
            for statement in remember_statements(self._spec, staging):
                connection.execute(sa.text(statement))
        counts.inserted += inserted
        counts.updated += updated
        keys = size if keys is None else keys
        counts.unchanged += keys - inserted - updated
        counts.duplicates += size - keys

    def _refused(self, row: Row, error: Exception) -> Rejected:
        diagnosis = getattr(getattr(error, "orig", None) or error, "diag", None)
        found = _AT_COLUMN.search(getattr(diagnosis, "context", None) or "")
        column = found[1] if found else getattr(diagnosis, "column_name", None)
        names = [c.name for c in self._spec.columns]
        return Rejected(column, f"PostgreSQL: {message(error)}", dict(zip(names, row, strict=True)))


def copy_text(rows: Sequence[Row]) -> bytes:
    """Rows as COPY's text format.

    https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS-TEXT
    """
    columns = [_fields(column) for column in zip(*rows, strict=True)]
    return ("\n".join(map("\t".join, zip(*columns, strict=True))) + "\n").encode()


def _fields(column: Sequence[Any]) -> list[str]:
    """The values of one column, which are of one type, as text."""
    kinds = set(map(type, column)) - {type(None)}
    if kinds == {str}:
        # Looking through all of them at once is much quicker than at each.
        plain = _NEEDS_ESCAPE.search("".join(filter(None, column))) is None
        return ["\\N" if v is None else v if plain else v.translate(_ESCAPES) for v in column]
    if kinds == {bool}:
        return ["\\N" if v is None else "t" if v else "f" for v in column]
    return ["\\N" if v is None else str(v) for v in column]
