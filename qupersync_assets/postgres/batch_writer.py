"""Writes batches into a target table with the fastest strategy that can take the whole batch.

A raw page of a history is first compared with the target and copied directly (`direct_copy`), one of a snapshot is
compared with the rows that the target had (`known_rows`). If this is not possible, the raw page is merged from
a temporary table by one INSERT ... ON CONFLICT DO UPDATE (`merge`). If a value needs coercion, or if a key occurs
twice, the page is decoded, coerced and merged. Only `rows.coercion` decides that a value is invalid; the valid rows
beside it are not decoded. The last strategy, without ON CONFLICT and in halves, skips the rows that PostgreSQL or
a trigger refuses: at later loads they are set aside before. A strategy that the server refuses for its statement is
not tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import sqlalchemy as sa

from qupersync_assets.core.errors import ErrorClass, classify, message
from qupersync_assets.core.retries import call_with_retries
from qupersync_assets.postgres import skipped_rows
from qupersync_assets.postgres.advisory_lock import JobConnection
from qupersync_assets.postgres.batch_merge import DATABASE_ERRORS, Batch, BatchMerge, RowsNotWritten, invalid_rows
from qupersync_assets.postgres.direct_copy import DirectCopy, direct_copy, other_types
from qupersync_assets.postgres.known_rows import KnownRows
from qupersync_assets.postgres.merge import read_keys_table, record_key_statement
from qupersync_assets.postgres.staging import NeedsCoercion, Staging, raw_staging
from qupersync_assets.rows.coercion import Row, key_inputs, transform
from qupersync_assets.rows.page import AnyPage, RawPage
from qupersync_assets.rows.row_counts import RowCounts, SkippedRow
from qupersync_assets.spec import SyncSpec

# Maximum seconds before the first retry of a batch.
RETRY_SECONDS = 0.5

# Records the totals and the skipped rows of a batch, in the transaction of the batch.
Finish = Callable[[sa.Connection, RowCounts, list[SkippedRow]], None]


# Writes a batch in the transaction of the given connection.
Strategy = Callable[[sa.Connection], Batch]

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


def _is_transient(error: BaseException) -> bool:
    return classify(error) is ErrorClass.TRANSIENT


class BatchWriter:
    """Writes the batches of one load, or of one part of it, each in its own transaction."""

    def __init__(self, target: JobConnection, spec: SyncSpec, finish: Finish, database: str = "") -> None:
        """`database` is that of the rows, if they are a part of a snapshot."""
        self.counts = RowCounts()  # totals of all committed batches
        self.slow_path = ""  # why the fastest strategy cannot take the first page, if it cannot
        self._target = target
        self._spec = spec
        self._first_opened = target.opened
        self._finish = finish
        self._database = database
        self._known: KnownRows | None = None
        self._merge = BatchMerge(spec, target.cluster)
        self._raw: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[Staging, DirectCopy | None] | None] = {}
        self._unusable: set[str] = set()  # strategies that the server refused for their statement

    def write(self, page: AnyPage) -> tuple[SkippedRow, ...]:
        """Write one batch and return its skipped rows; a row with invalid data is skipped alone. The counts of
        a batch whose rows are known reach the log row with those of the next batch.

        Raises:
            sqlalchemy.exc.DBAPIError, psycopg2.Error: an error that is not caused by a row; a transient one
                was tried five times. This batch is rolled back, earlier ones stay.
            SyncError: the page cannot be decoded; or its keys are those of other rows.
        """
        if call_with_retries(partial(self._is_known, page), _is_transient, RETRY_SECONDS):
            self.counts += RowCounts(extracted=len(page), unchanged=len(page), batches=1)
            return ()
        skipped: tuple[SkippedRow, ...] = ()
        accepted, refused = self._set_aside(page)
        for part, strategies in ((accepted, self._strategies), (refused, self._singly)):
            if part is not None:
                write = partial(self._write, part, strategies)
                skipped += call_with_retries(write, _is_transient, RETRY_SECONDS)
        return skipped

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

    @property
    def may_have_unread(self) -> bool:
        """Whether the target may have rows of a snapshot that were in no batch."""
        return self._known is None or self._known.has_unread

    def record_keys(self, connection: sa.Connection) -> None:
        """Record the keys of unchanged batches, too, in the temporary table of the keys that were read."""
        if self._known is not None:
            self._known.record_keys(connection)

    @cached_property
    def _has_unique_key(self) -> bool:
        names = {"table": self._spec.table.fullname, "key": sorted(c.name for c in self._spec.key)}
        with self._target.begin() as connection:
            return bool(connection.execute(_HAS_UNIQUE_KEY, names).scalar_one())

    @property
    def _merges_on_conflict(self) -> bool:
        return self._has_unique_key and "merge" not in self._unusable

    @cached_property
    def _refused_keys(self) -> set[tuple[Any, ...]]:
        with self._target.begin() as connection:
            return skipped_rows.refused_keys(connection, self._spec, self._target.cluster)

    def _set_aside(self, page: AnyPage) -> tuple[AnyPage | None, AnyPage | None]:
        """Return the rows of a page that PostgreSQL did not refuse in an earlier load, and the others."""
        if not self._refused_keys:
            return page, None
        keys = [skipped_rows.as_known_key(key) for key in key_inputs(self._spec, page)]
        refused = [n for n, key in enumerate(keys) if key in self._refused_keys]
        if not refused:
            return page, None
        others = sorted(set(range(len(page))).difference(refused))
        return page.take(others) if others else None, page.take(refused)

    def _write(
        self, page: AnyPage, strategies: Callable[[AnyPage], Iterator[tuple[str, Strategy]]]
    ) -> tuple[SkippedRow, ...]:
        refused: Exception | None = None
        for name, strategy in strategies(page):
            try:
                return self._commit(len(page), strategy)
            except (NeedsCoercion, RowsNotWritten, *DATABASE_ERRORS) as error:
                if _is_transient(error):
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
                yield "merge of raw rows", partial(self._merge.raw, staging, page)
        rows, invalid = transform(self._spec, page.decoded())
        skipped = Batch(RowCounts(skipped=len(invalid)), tuple(invalid))
        if self._merges_on_conflict:
            yield "merge", lambda connection: skipped + self._merge.rows(rows, True, connection)
        yield "merge in halves", lambda connection: skipped + self._accepted(rows, 2, connection)

    def _singly(self, page: AnyPage) -> Iterator[tuple[str, Strategy]]:
        """Yield the strategy for rows that were refused before: all at once, then each alone."""
        rows, invalid = transform(self._spec, page.decoded())
        skipped = Batch(RowCounts(skipped=len(invalid)), tuple(invalid))
        yield "merge of single rows", lambda connection: skipped + self._accepted(rows, len(rows), connection)

    def _raw_ways(self, page: RawPage) -> tuple[Staging, DirectCopy | None] | None:
        """Return how rows of these columns and types can be written raw, None if they cannot."""
        received = page.columns, tuple(t.name for t in page.types)
        if received not in self._raw:
            staging = raw_staging(self._spec, *received)
            direct = direct_copy(self._spec, self._target.cluster, staging) if staging else None
            self._raw[received] = (staging, direct) if staging else None
        return self._raw[received]

    def _is_known(self, page: AnyPage) -> bool:
        """Return whether the page is one of a snapshot, and its rows are known and need not be written."""
        if self._spec.kind != "snapshot" or not isinstance(page, RawPage) or not (raw := self._raw_ways(page)):
            return False
        if self._known is None and "comparison" not in self._unusable:
            try:
                with self._target.begin() as connection:
                    self._known = KnownRows(connection, self._spec, self._target.cluster, self._database, raw[0])
            except DATABASE_ERRORS as error:
                if _is_transient(error):
                    raise
                self._unusable.add("comparison")  # a value that the source has not sent in this type
        return self._known is not None and self._known.staging is raw[0] and self._known.include(page)

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
        inserted, left_out = direct.load(connection, page)
        invalid = invalid_rows(self._spec, page, left_out)
        unchanged = len(page) - inserted - len(invalid)
        return Batch(RowCounts(inserted=inserted, unchanged=unchanged, skipped=len(invalid)), invalid)

    def _record_skipped_keys(self, rows: Sequence[SkippedRow], connection: sa.Connection) -> None:
        """Record the keys of rows that the source has, although they were not loaded."""
        connection.execute(sa.text(read_keys_table(self._spec)))
        keys = [{c.name: row.key.get(c.name) for c in self._spec.source_key} for row in rows]
        connection.execute(sa.text(record_key_statement(self._spec)), keys)

    def _accepted(self, rows: Sequence[Row], parts: int, connection: sa.Connection) -> Batch:
        return self._merge.accepted(rows, parts, self._merges_on_conflict, connection)
