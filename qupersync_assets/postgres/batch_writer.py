"""Writes batches into a target table with the fastest strategy that can take the whole batch.

A raw page of a history is first compared with the target and copied directly (`direct_copy`). If this is not
possible, the raw page is merged from a temporary table by one INSERT ... ON CONFLICT DO UPDATE (`merge`). If
a value needs coercion, or if a key occurs twice, the page is decoded, coerced and merged. Only `rows.coercion`
decides that a value is invalid. The last strategy, without ON CONFLICT and in halves, skips the rows that
PostgreSQL or a trigger refuses. A strategy that the server refuses for its statement is not tried again.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cached_property, partial
from typing import Any, NamedTuple

import psycopg2
import sqlalchemy as sa

from qupersync_assets.core.errors import ErrorClass, SyncError, classify, message
from qupersync_assets.core.retries import call_with_retries
from qupersync_assets.postgres.advisory_lock import JobConnection
from qupersync_assets.postgres.direct_copy import DirectCopy, direct_copy, other_types
from qupersync_assets.postgres.merge import (
    merge_statement,
    read_keys_table,
    record_key_statement,
    record_keys_statements,
    reused_key_statement,
)
from qupersync_assets.postgres.staging import NeedsCoercion, Staging, raw_staging, typed_staging
from qupersync_assets.rows.coercion import Row, key_of, transform
from qupersync_assets.rows.page import AnyPage, RawPage, copy_binary
from qupersync_assets.rows.row_counts import RowCounts, SkippedRow
from qupersync_assets.spec import SyncSpec

_NEEDS_ESCAPE = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_AT_COLUMN = re.compile(r"column (\w+):")

# Maximum seconds before the first retry of a batch.
RETRY_SECONDS = 0.5

# Records the totals and the skipped rows of a batch, in the transaction of the batch.
Finish = Callable[[sa.Connection, RowCounts, list[SkippedRow]], None]


class Batch(NamedTuple):
    """What a strategy did with the rows of a batch; the counts are those of this batch alone."""

    counts: RowCounts
    skipped: tuple[SkippedRow, ...] = ()

    def __add__(self, other: Batch) -> Batch:  # type: ignore[override]
        return Batch(self.counts + other.counts, self.skipped + other.skipped)


# Writes a batch in the transaction of the given connection.
Strategy = Callable[[sa.Connection], Batch]

DATABASE_ERRORS = (sa.exc.DBAPIError, psycopg2.Error)
# Whether an index can decide that a key is known: partitions by another column have none.
_HAS_UNIQUE_KEY = sa.text(
    """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_index AS i
        WHERE i.indrelid = to_regclass(:table) AND i.indisunique AND i.indisvalid AND i.indimmediate
          AND i.indpred IS NULL AND i.indexprs IS NULL AND :key = ARRAY(
              SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
              WHERE a.attrelid = i.indrelid AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1]) ORDER BY 1
          )
    )
    """
)


class RowsNotWritten(Exception):
    """Rows of a batch are not in the target, without an error: a trigger, a rule or a policy left them out."""


class BatchWriter:
    """Writes the batches of one load, or of one part of it, each in its own transaction."""

    def __init__(self, target: JobConnection, spec: SyncSpec, finish: Finish) -> None:
        self.counts = RowCounts()  # totals of all committed batches
        self.slow_path = ""  # why the fastest strategy cannot take the first page, if it cannot
        self._target = target
        self._spec = spec
        self._first_opened = target.opened
        self._finish = finish
        self._typed = typed_staging(spec)
        self._merges: dict[tuple[str, bool, bool], sa.TextClause] = {}
        self._raw: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[Staging, DirectCopy | None] | None] = {}
        self._unusable: set[str] = set()  # strategies that the server refused for their statement

    def write(self, page: AnyPage) -> tuple[SkippedRow, ...]:
        """Write one batch and return its skipped rows; a row with invalid data is skipped alone.

        Raises:
            sqlalchemy.exc.DBAPIError, psycopg2.Error: an error that is not caused by a row; a transient one
                was tried five times. This batch is rolled back, earlier ones stay.
            SyncError: the page cannot be decoded; or its keys are those of other rows.
        """
        return call_with_retries(
            partial(self._write, page), lambda e: classify(e) is ErrorClass.TRANSIENT, RETRY_SECONDS
        )

    @property
    def has_all_keys(self) -> bool:
        """Whether after the last batch of a snapshot the session has the keys of all rows that the source holds, except
        for the unknown values in keys of skipped rows.

        It is unknown what the source holds if it gave no rows, which is what missing privileges look like, unless the
        rows are transient; or if the session was replaced.
        """
        is_read = self.counts.extracted or self._spec.transient
        return bool(is_read) and self._target.opened == self._first_opened

    @property
    def is_complete(self) -> bool:
        """Whether all rows of a snapshot were loaded, and removed rows are known."""
        return self.has_all_keys and not self.counts.skipped

    @cached_property
    def _has_unique_key(self) -> bool:
        names = {"table": self._spec.table.fullname, "key": sorted(c.name for c in self._spec.key)}
        with self._target.begin() as connection:
            return bool(connection.execute(_HAS_UNIQUE_KEY, names).scalar_one())

    @property
    def _merges_on_conflict(self) -> bool:
        return self._has_unique_key and "merge" not in self._unusable

    def _write(self, page: AnyPage) -> tuple[SkippedRow, ...]:
        refused: Exception | None = None
        for name, strategy in self._strategies(page):
            try:
                return self._commit(len(page), strategy)
            except (NeedsCoercion, RowsNotWritten, *DATABASE_ERRORS) as error:
                if classify(error) is ErrorClass.TRANSIENT:
                    raise
                refused = error
                if isinstance(error, DATABASE_ERRORS) and classify(error) is not ErrorClass.ROW:
                    self._unusable.add(name)
                    self.slow_path = self.slow_path or f"PostgreSQL refused the {name}: {message(error)}"
        raise refused or AssertionError("a page has at least one strategy")

    def _strategies(self, page: AnyPage) -> Iterator[tuple[str, Strategy]]:
        """Yield the strategies for a page with their names, the fastest first; the last one skips refused rows."""
        if not self.counts.batches:
            self.slow_path = self._why_slow(page)
        if self._has_unique_key and isinstance(page, RawPage) and (raw := self._raw_ways(page)):
            staging, direct = raw
            if direct and "direct copy" not in self._unusable:
                yield "direct copy", partial(self._copy_directly, direct, page)
            if "merge of raw rows" not in self._unusable:
                data = copy_binary(page.bodies)
                yield "merge of raw rows", partial(self._merge, staging, "binary", data, len(page))
        rows, invalid = transform(self._spec, page.decoded())
        skipped = Batch(RowCounts(skipped=len(invalid)), tuple(invalid))
        if self._merges_on_conflict:
            yield "merge", lambda connection: skipped + self._merge_rows(rows, connection)
        yield "merge in halves", lambda connection: skipped + self._merge_accepted(rows, connection)

    def _raw_ways(self, page: RawPage) -> tuple[Staging, DirectCopy | None] | None:
        """Return how rows of these columns and types can be written raw, None if they cannot."""
        received = page.columns, tuple(t.name for t in page.types)
        if received not in self._raw:
            staging = raw_staging(self._spec, *received)
            direct = direct_copy(self._spec, self._target.cluster, staging) if staging else None
            self._raw[received] = (staging, direct) if staging else None
        return self._raw[received]

    def _why_slow(self, page: AnyPage) -> str:
        """Return why pages with the columns of this one cannot be written in the fastest way of the job, "" if so."""
        if not isinstance(page, RawPage):
            return "the pages are decoded, because SYNC_QUERY_TEXT hides texts or the driver decodes a type"
        if not self._has_unique_key:
            return f"{self._spec.table.fullname} has no unique index of {', '.join(c.name for c in self._spec.key)}"
        staging, direct = self._raw_ways(page) or (None, None)
        if direct or (staging and not self._spec.time_column):
            return ""
        return "; ".join(other_types(self._spec, {n: t.name for n, t in zip(page.columns, page.types, strict=True)}))

    def _commit(self, size: int, strategy: Strategy) -> tuple[SkippedRow, ...]:
        with self._target.begin() as connection:
            batch = strategy(connection)
            if self._spec.kind == "snapshot" and batch.skipped:
                self._record_skipped_keys(batch.skipped, connection)
            counts = self.counts + batch.counts + RowCounts(extracted=size, batches=1)
            self._finish(connection, counts, list(batch.skipped))
        self.counts = counts
        return batch.skipped

    def _copy_directly(self, direct: DirectCopy, page: RawPage, connection: sa.Connection) -> Batch:
        inserted = direct.load(connection, page)
        return Batch(RowCounts(inserted=inserted, unchanged=len(page) - inserted))

    def _record_skipped_keys(self, rows: Sequence[SkippedRow], connection: sa.Connection) -> None:
        """Record the keys of rows that the source has, although they were not loaded."""
        connection.execute(sa.text(read_keys_table(self._spec)))
        keys = [{c.name: row.key.get(c.name) for c in self._spec.source_key} for row in rows]
        connection.execute(sa.text(record_key_statement(self._spec)), keys)

    def _merge_accepted(self, rows: Sequence[Row], connection: sa.Connection) -> Batch:
        """Merge all rows except those that PostgreSQL refuses."""
        # A deferred trigger would refuse the whole batch at its end.
        connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
        return self._split(rows, connection)

    def _split(self, rows: Sequence[Row], connection: sa.Connection) -> Batch:
        """Merge the rows in halves, recursively, until each refused row is alone."""
        try:
            with connection.begin_nested():
                batch = self._merge_rows(rows, connection)
                connection.execute(sa.text(f"TRUNCATE {self._typed.name}"))
                return batch
        except (RowsNotWritten, *DATABASE_ERRORS) as error:
            if not isinstance(error, RowsNotWritten) and classify(error) is not ErrorClass.ROW:
                raise
            if len(rows) == 1:
                return Batch(RowCounts(skipped=1), (self._refused(rows[0], error),))
            middle = len(rows) // 2
            return self._split(rows[:middle], connection) + self._split(rows[middle:], connection)

    def _merge_rows(self, rows: Sequence[Row], connection: sa.Connection) -> Batch:
        if not rows:
            return Batch(RowCounts())
        return self._merge(self._typed, "text", copy_text(rows), len(rows), connection)

    def _merge(self, staging: Staging, form: str, data: bytes, size: int, connection: sa.Connection) -> Batch:
        connection.execute(sa.text(staging.definition))
        cursor: Any = connection.connection.cursor()
        with cursor:
            cursor.copy_expert(staging.copy(form), io.BytesIO(data), 1 << 20)
        if self._spec.times:
            self._check_keys(staging, connection)
        keys, inserted, updated, written, needs_coercion = self._execute_merge(staging, connection)
        if needs_coercion:
            raise NeedsCoercion
        if written != inserted + updated:
            self._check_written(staging, connection)
            updated = written - inserted
        if self._spec.kind == "snapshot":
            for statement in record_keys_statements(self._spec, staging):
                connection.execute(sa.text(statement))
        keys = size if keys is None else keys
        unchanged = keys - inserted - updated
        return Batch(RowCounts(inserted=inserted, updated=updated, unchanged=unchanged, duplicates=size - keys))

    def _execute_merge(self, staging: Staging, connection: sa.Connection, *, always: bool = False) -> tuple[Any, ...]:
        by_lookup = staging.is_numbered and not self._merges_on_conflict
        merge = self._merges.get((staging.name, by_lookup, always))
        if merge is None:
            merge = sa.text(merge_statement(self._spec, staging, by_lookup=by_lookup, always=always))
            self._merges[staging.name, by_lookup, always] = merge
        return tuple(connection.execute(merge, {"cluster": self._target.cluster}).one())

    def _check_written(self, staging: Staging, connection: sa.Connection) -> None:
        """Raise RowsNotWritten if rows are missing; others got from a trigger the values that the target has.

        The rows that still differ are written in any case, which a trigger may refuse, and the attempt is undone.
        """
        with connection.begin_nested() as attempt:
            _, inserted, updated, written, _ = self._execute_merge(staging, connection, always=True)
            attempt.rollback()
        if written != inserted + updated:
            raise RowsNotWritten("a trigger, a rule or a policy of the table left the row out")

    def _check_keys(self, staging: Staging, connection: sa.Connection) -> None:
        """Raise SyncError if rows of the batch would replace other rows, because Redshift numbers them again."""
        cluster, statement = self._target.cluster, sa.text(reused_key_statement(self._spec, staging))
        if reused := connection.execute(statement, {"cluster": cluster}).first():
            key, known, now = (f"{v:%Y-%m-%d %H:%M:%S} UTC" if isinstance(v, datetime) else v for v in reused)
            raise SyncError(
                f"Number {key} of {self._spec.table.fullname}, cluster {cluster}, started at {known}, and Redshift has "
                f"another one of {now}: the cluster was restored or replaced, and numbers its queries again. No row "
                "was replaced. Give the cluster another name in CLUSTER_NAME or CLUSTERS: old rows keep the old one.",
                ErrorClass.FATAL,
            )

    def _refused(self, row: Row, error: Exception) -> SkippedRow:
        diagnosis = getattr(getattr(error, "orig", None) or error, "diag", None)
        found = _AT_COLUMN.search(getattr(diagnosis, "context", None) or "")
        column = found[1] if found else getattr(diagnosis, "column_name", None)
        names = [c.name for c in self._spec.columns]
        values = dict(zip(names, row, strict=True))
        return SkippedRow(column, f"PostgreSQL: {message(error)}", values, key_of(self._spec, row))


def copy_text(rows: Sequence[Row]) -> bytes:
    """Return rows in COPY's text format.

    https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS-TEXT
    """
    columns = [_fields(column) for column in zip(*rows, strict=True)]
    return ("\n".join(map("\t".join, zip(*columns, strict=True))) + "\n").encode()


def _fields(column: Sequence[Any]) -> list[str]:
    """Return the values of one column, which have one type, as text."""
    kinds = set(map(type, column)) - {type(None)}
    if kinds == {str}:
        # One search through all values is much faster than one search per value.
        plain = _NEEDS_ESCAPE.search("".join(filter(None, column))) is None
        return ["\\N" if v is None else v if plain else v.translate(_ESCAPES) for v in column]
    if kinds == {bool}:
        return ["\\N" if v is None else "t" if v else "f" for v in column]
    return ["\\N" if v is None else str(v) for v in column]
