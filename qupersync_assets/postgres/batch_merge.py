"""Merges batches into a target table through a staging table: raw rows, typed rows, or as many of them as PostgreSQL
accepts."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from typing import Any, NamedTuple

import psycopg2
import sqlalchemy as sa

from qupersync_assets.core.errors import ErrorClass, SyncError, classify, message
from qupersync_assets.postgres.merge import merge_statement, record_keys_statements, reused_key_statement
from qupersync_assets.postgres.skipped_rows import REFUSED
from qupersync_assets.postgres.staging import NeedsCoercion, Staging, copy_text, typed_staging
from qupersync_assets.rows.coercion import Row, key_of, transform
from qupersync_assets.rows.page import RawPage, copy_binary
from qupersync_assets.rows.row_counts import RowCounts, SkippedRow
from qupersync_assets.spec import SyncSpec

_AT_COLUMN = re.compile(r"column (\w+):")

DATABASE_ERRORS = (sa.exc.DBAPIError, psycopg2.Error)


class Batch(NamedTuple):
    """What a strategy did with the rows of a batch; the counts are those of this batch alone."""

    counts: RowCounts
    skipped: tuple[SkippedRow, ...] = ()

    def __add__(self, other: Batch) -> Batch:  # type: ignore[override]
        return Batch(self.counts + other.counts, self.skipped + other.skipped)


class RowsNotWritten(Exception):
    """Rows of a batch are not in the target, without an error: a trigger, a rule or a policy left them out."""


def invalid_rows(spec: SyncSpec, page: RawPage, bodies: Sequence[bytes]) -> tuple[SkippedRow, ...]:
    """Return invalid rows of a page as skipped rows; raise NeedsCoercion if one of the rows is valid."""
    rows, invalid = transform(spec, page.of(bodies).decoded()) if bodies else ([], [])
    if rows:
        raise NeedsCoercion
    return tuple(invalid)


class BatchMerge:
    """Merges batches of one cluster into the table of a job; each method is called within a transaction."""

    def __init__(self, spec: SyncSpec, cluster: str) -> None:
        self._spec = spec
        self._cluster = cluster
        self._typed = typed_staging(spec)
        self._statements: dict[tuple[str, bool, bool], sa.TextClause] = {}

    def raw(self, staging: Staging, page: RawPage, connection: sa.Connection) -> Batch:
        """Merge a raw page; skip its invalid rows.

        Raises:
            NeedsCoercion: a value needs coercion, or a key occurs twice.
        """
        self._fill(staging, "binary", copy_binary(page.bodies), connection)
        try:
            return self._merge(staging, len(page), connection)
        except NeedsCoercion:  # nothing was written
            positions = connection.scalars(sa.text(staging.invalid_rows)).all()
            if not positions:
                raise
        invalid = invalid_rows(self._spec, page, [page.bodies[position] for position in positions])
        connection.execute(sa.text(f"DELETE FROM {staging.name} WHERE {staging.needs_coercion}"))
        skipped = Batch(RowCounts(skipped=len(invalid)), invalid)
        return skipped + self._merge(staging, len(page) - len(invalid), connection)

    def rows(self, rows: Sequence[Row], on_conflict: bool, connection: sa.Connection) -> Batch:
        """Merge coerced rows; without `on_conflict` the target needs no unique index."""
        if not rows:
            return Batch(RowCounts())
        self._fill(self._typed, "text", copy_text(rows), connection)
        return self._merge(self._typed, len(rows), connection, by_lookup=not on_conflict)

    def accepted(self, rows: Sequence[Row], parts: int, on_conflict: bool, connection: sa.Connection) -> Batch:
        """Merge coerced rows except those that PostgreSQL refuses: if it refuses some, merge the rows in so many parts,
        and each of these likewise."""
        # A deferred trigger would refuse the whole batch at its end.
        connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
        return self._split(rows, parts, on_conflict, connection)

    def _split(self, rows: Sequence[Row], parts: int, on_conflict: bool, connection: sa.Connection) -> Batch:
        try:
            with connection.begin_nested():
                batch = self.rows(rows, on_conflict, connection)
                connection.execute(sa.text(f"TRUNCATE {self._typed.name}"))
                return batch
        except (RowsNotWritten, *DATABASE_ERRORS) as error:
            if not isinstance(error, RowsNotWritten) and classify(error) is not ErrorClass.ROW:
                raise
            if len(rows) == 1:
                return Batch(RowCounts(skipped=1), (self._refused(rows[0], error),))
            size = -(-len(rows) // parts)
            pieces = (rows[start : start + size] for start in range(0, len(rows), size))
            return reduce(Batch.__add__, (self._split(piece, parts, on_conflict, connection) for piece in pieces))

    def _fill(self, staging: Staging, form: str, data: bytes, connection: sa.Connection) -> None:
        connection.execute(sa.text(staging.definition))
        cursor: Any = connection.connection.cursor()
        with cursor:
            cursor.copy_expert(staging.copy(form), io.BytesIO(data), 1 << 20)

    def _merge(self, staging: Staging, size: int, connection: sa.Connection, *, by_lookup: bool = False) -> Batch:
        if self._spec.times:
            self._check_keys(staging, connection)
        keys, inserted, updated, written, needs_coercion = self._execute(staging, connection, by_lookup)
        if needs_coercion:
            raise NeedsCoercion
        if written != inserted + updated:
            self._check_written(staging, connection, by_lookup)
            updated = written - inserted
        if self._spec.kind == "snapshot":
            for statement in record_keys_statements(self._spec, staging):
                connection.execute(sa.text(statement))
        keys = size if keys is None else keys
        unchanged = keys - inserted - updated
        return Batch(RowCounts(inserted=inserted, updated=updated, unchanged=unchanged, duplicates=size - keys))

    def _execute(
        self, staging: Staging, connection: sa.Connection, by_lookup: bool, *, always: bool = False
    ) -> tuple[Any, ...]:
        merge = self._statements.get((staging.name, by_lookup, always))
        if merge is None:
            merge = sa.text(merge_statement(self._spec, staging, by_lookup=by_lookup, always=always))
            self._statements[staging.name, by_lookup, always] = merge
        return tuple(connection.execute(merge, {"cluster": self._cluster}).one())

    def _check_written(self, staging: Staging, connection: sa.Connection, by_lookup: bool) -> None:
        """Raise RowsNotWritten if rows are missing; others got from a trigger the values that the target has.

        The rows that still differ are written in any case, which a trigger may refuse, and the attempt is undone.
        """
        with connection.begin_nested() as attempt:
            _, inserted, updated, written, _ = self._execute(staging, connection, by_lookup, always=True)
            attempt.rollback()
        if written != inserted + updated:
            raise RowsNotWritten("a trigger, a rule or a policy of the table left the row out")

    def _check_keys(self, staging: Staging, connection: sa.Connection) -> None:
        """Raise SyncError if rows of the batch would replace other rows, because Redshift numbers them again."""
        cluster, statement = self._cluster, sa.text(reused_key_statement(self._spec, staging))
        if reused := connection.execute(statement, {"cluster": cluster}).first():
            key, known, now = (f"{v:%Y-%m-%d %H:%M:%S} UTC" if isinstance(v, datetime) else v for v in reused)
            raise SyncError(
                f"Redshift has used number {key} again: in {self._spec.table.fullname}, cluster {cluster}, it started "
                f"at {known}, in Redshift at {now}. The cluster was restored or replaced, and numbers its queries from "
                "the beginning. No row was replaced. Give the cluster another name in CLUSTER_NAME or CLUSTERS; the "
                "old rows keep the old name.",
                ErrorClass.FATAL,
            )

    def _refused(self, row: Row, error: Exception) -> SkippedRow:
        diagnosis = getattr(getattr(error, "orig", None) or error, "diag", None)
        found = _AT_COLUMN.search(getattr(diagnosis, "context", None) or "")
        column = found[1] if found else getattr(diagnosis, "column_name", None)
        names = [c.name for c in self._spec.columns]
        values = dict(zip(names, row, strict=True))
        return SkippedRow(column, f"{REFUSED}{message(error)}", values, key_of(self._spec, row))
