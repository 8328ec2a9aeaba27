"""Batches into a target table: COPY into a temporary table, then one INSERT ... ON CONFLICT DO UPDATE.

https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT. The statement refuses to touch a row
twice, hence the DISTINCT ON; and writes only rows that differ, hence the WHERE.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from qupersync_assets.errors import ErrorClass, classify, message
from qupersync_assets.job_lock import JobConnection
from qupersync_assets.spec import SyncSpec
from qupersync_assets.transform import Counts, Rejected, Row

_quote = postgresql.dialect().identifier_preparer.quote  # type: ignore[no-untyped-call]
_NEEDS_ESCAPE = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_AT_COLUMN = re.compile(r"column (\w+):")

# The first retry of a batch waits up to so long, further ones up to twice as long each.
RETRY_SECONDS = 0.5

Finish = Callable[[sa.Connection, Counts, list[Rejected]], None]


def staging_statement(spec: SyncSpec) -> str:
    """The temporary table that batches of this job are copied into, empty after each transaction."""
    return (
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {_staging(spec)} ON COMMIT DELETE ROWS "
        f"AS SELECT 0 AS _row, {_names(spec)} FROM {spec.table.fullname} WITH NO DATA"
    )


def merge_statement(spec: SyncSpec) -> str:
    """The statement that merges the temporary table into the target.

    Its parameter is `cluster`; it returns one row: distinct keys, rows inserted, rows updated.
    """
    # A key column that PostgreSQL computes is not in the temporary table, but what it is computed from is.
    keys = ", ".join(
        _quote(c.name) if c.computed is None else str(c.computed.sqltext)
        for c in spec.key
        if c.name != "cluster"
    )
    key_names = {c.name for c in spec.key}
    changing = [c for c in spec.columns if c.name not in key_names]
    merged = {_quote(c.name): _merged(c) for c in changing}
    differs = f"({', '.join(f't.{name}' for name in merged)}) IS DISTINCT FROM ({', '.join(merged.values())})"
    merged["synced_at"] = "now()"
    if spec.kind == "snapshot":
        merged["removed_at"] = "NULL"
        differs = f"({differs} OR t.removed_at IS NOT NULL)"
    newer = ""
    if spec.newer_by:
        stamp = _quote(spec.newer_by)
        newer = f"\n      AND (t.{stamp} IS NULL OR excluded.{stamp} >= t.{stamp})"
    return f"""
WITH picked AS (
    SELECT DISTINCT ON ({keys}) {_names(spec)} FROM {_staging(spec)} ORDER BY {keys}, _row DESC
), merged AS (
    INSERT INTO {spec.table.fullname} AS t (cluster, {_names(spec)})
    SELECT :cluster, {_names(spec)} FROM picked
    ON CONFLICT ({", ".join(_quote(c.name) for c in spec.key)}) DO UPDATE
    SET {", ".join(f"{name} = {value}" for name, value in merged.items())}
    WHERE {differs}{newer}
    RETURNING t.xmax = 0 AS inserted
)
SELECT (SELECT count(*) FROM picked), count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted)
FROM merged"""


def remember_statements(spec: SyncSpec) -> list[str]:
    """What notes the keys of a snapshot's batch in a temporary table, as long-lived as the session."""
    names = ", ".join(_quote(c.name) for c in spec.key if c.name != "cluster")
    return [
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {_seen(spec)} AS "
        f"SELECT {names} FROM {spec.table.fullname} WITH NO DATA",
        f"INSERT INTO {_seen(spec)} SELECT {names} FROM {_staging(spec)}",
    ]


def removal_statement(spec: SyncSpec) -> str:
    """The statement that marks the rows of a snapshot that no batch has held; its parameter is `cluster`."""
    names = [_quote(c.name) for c in spec.key if c.name != "cluster"]
    still_there = f" AND NOT {spec.still_there}" if spec.still_there else ""
    return f"""
UPDATE {spec.table.fullname} AS u SET removed_at = now()
FROM (
    SELECT {", ".join(names)} FROM {spec.table.fullname} AS t
    WHERE t.cluster = :cluster AND t.removed_at IS NULL
      AND NOT EXISTS (SELECT FROM {_seen(spec)} s WHERE {_equal("s", "t", names)}){still_there}
    ORDER BY {", ".join(names)} FOR UPDATE
) AS gone
WHERE u.cluster = :cluster AND {_equal("u", "gone", names)}"""


def _equal(left: str, right: str, names: Sequence[str]) -> str:
    return " AND ".join(f"{left}.{name} = {right}.{name}" for name in names)


def _merged(column: sa.Column[Any]) -> str:
    name = _quote(column.name)
    merge = column.info["merge"]
    return f"excluded.{name}" if merge == "replace" else f"{merge}(t.{name}, excluded.{name})"


def _staging(spec: SyncSpec) -> str:
    return f"staging_{spec.table.name}"


def _seen(spec: SyncSpec) -> str:
    return f"seen_{spec.table.name}"


def _names(spec: SyncSpec) -> str:
    return ", ".join(_quote(c.name) for c in spec.columns)


class BatchWriter:
    """Writes the batches of one load, each in one transaction of its own.

    Attributes:
        counts: what became of the rows of all committed batches.
    """

    def __init__(self, target: JobConnection, spec: SyncSpec, finish: Finish) -> None:
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
        self._merge = sa.text(merge_statement(spec))

    def write(self, rows: Sequence[Row], rejected: Sequence[Rejected]) -> list[Rejected]:
        """Merge one batch; a row that PostgreSQL refuses for its data is rejected, alone.

        Returns:
            All rejected rows of the batch: the given ones and those that PostgreSQL refused.

        Raises:
            sqlalchemy.exc.DBAPIError, psycopg2.Error: an error that is no row's fault; a transient one has
                been tried five times. The batch is rolled back then, earlier ones stay.
        """
        for attempt in Retrying(
            stop=stop_after_attempt(5),
            wait=wait_random_exponential(multiplier=RETRY_SECONDS, max=10 * RETRY_SECONDS),
            retry=retry_if_exception(lambda e: classify(e) is ErrorClass.TRANSIENT),
            reraise=True,
        ):
            with attempt:
                try:
                    return self._transaction(rows, list(rejected), self._merge_rows)
                except Exception as error:
                    if classify(error) is not ErrorClass.ROW:
                        raise
                return self._transaction(rows, list(rejected), self._split)
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

    def _transaction(
        self,
        rows: Sequence[Row],
        rejected: list[Rejected],
        load: Callable[[sa.Connection, Sequence[Row], Counts, list[Rejected]], None],
    ) -> list[Rejected]:
        counts = replace(self.counts)
        counts.extracted += len(rows) + len(rejected)
        counts.batches += 1
        with self._target.begin() as connection:
            if rows:
                connection.execute(sa.text(staging_statement(self._spec)))
                load(connection, rows, counts, rejected)
            counts.skipped += len(rejected)
            self._finish(connection, counts, rejected)
        self.counts = counts
        return rejected

    def _split(
        self, connection: sa.Connection, rows: Sequence[Row], counts: Counts, rejected: list[Rejected]
    ) -> None:
        """Merge the rows in halves, and halves of halves, until those that are refused are alone."""
        try:
            with connection.begin_nested():
                trial = replace(counts)
                connection.execute(sa.text(f"TRUNCATE {_staging(self._spec)}"))
                self._merge_rows(connection, rows, trial, rejected)
                vars(counts).update(vars(trial))
        except Exception as error:
            if classify(error) is not ErrorClass.ROW:
                raise
            if len(rows) == 1:
                rejected.append(self._refused(rows[0], error))
                return
            middle = len(rows) // 2
            self._split(connection, rows[:middle], counts, rejected)
            self._split(connection, rows[middle:], counts, rejected)

    def _merge_rows(
        self, connection: sa.Connection, rows: Sequence[Row], counts: Counts, _rejected: list[Rejected]
    ) -> None:
        cursor: Any = connection.connection.cursor()
        with cursor:
            cursor.copy_expert(f"COPY {_staging(self._spec)} FROM STDIN", io.BytesIO(copy_text(rows)))
        keys, inserted, updated = connection.execute(self._merge, {"cluster": self._target.cluster}).one()
        if self._spec.kind == "snapshot":
            for statement in remember_statements(self._spec):
                connection.execute(sa.text(statement))
        counts.inserted += inserted
        counts.updated += updated
        counts.unchanged += keys - inserted - updated
        counts.duplicates += len(rows) - keys

    def _refused(self, row: Row, error: Exception) -> Rejected:
        diagnosis = getattr(getattr(error, "orig", None) or error, "diag", None)
        found = _AT_COLUMN.search(getattr(diagnosis, "context", None) or "")
        column = found[1] if found else getattr(diagnosis, "column_name", None)
        names = [c.name for c in self._spec.columns]
        return Rejected(column, f"PostgreSQL: {message(error)}", dict(zip(names, row, strict=True)))


def copy_text(rows: Sequence[Row]) -> bytes:
    """Rows as COPY's text format, each with its number in front.

    https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS-TEXT
    """
    columns = [_fields(column) for column in zip(*rows, strict=True)]
    numbers = [str(i) for i in range(len(rows))]
    lines = map("\t".join, zip(numbers, *columns, strict=True))
    return ("\n".join(lines) + "\n").encode()


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
