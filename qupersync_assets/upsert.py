"""Batches into a target table: COPY into a temporary table, then one INSERT ... ON CONFLICT DO UPDATE.

https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT. The statement refuses to touch a row
twice, hence the DISTINCT ON; and writes only rows that differ, hence the WHERE.

Rows are copied as they came over the wire where that is possible. A batch of which PostgreSQL refuses a row,
has a doubt, or finds a key twice, is decoded and coerced by `transform`, which alone judges rows.

Rows are written in the order of their keys, as all writers do it, lest two lock each other out.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import sqlalchemy as sa
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from qupersync_assets.errors import ErrorClass, classify, message
from qupersync_assets.job_lock import JobConnection
from qupersync_assets.spec import SyncSpec
from qupersync_assets.staging import Staging, coerced, quote, undecoded
from qupersync_assets.transform import Counts, Rejected, Row, transform
from qupersync_assets.wire import AnyPage, UndecodedPage

_NEEDS_ESCAPE = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_AT_COLUMN = re.compile(r"column (\w+):")

# The first retry of a batch waits up to so long, further ones up to twice as long each.
RETRY_SECONDS = 0.5

# Something to do within a batch's transaction with its totals and its rejected rows.
Load = Callable[[sa.Connection, Counts, list[Rejected]], None]


class _Doubt(Exception):
    """There is a row that `transform` has to judge, or a key twice."""


def merge_statement(spec: SyncSpec, staging: Staging) -> str:
    """The statement that merges the temporary table into the target.

    Its parameter is `cluster`; it returns one row: distinct keys, NULL if all keys are distinct; rows
    inserted; rows updated; whether there is a doubt, and nothing is written.
    """
    # A key column that PostgreSQL computes is not in the temporary table, but what it is computed from is.
    keys = ", ".join(
        quote(c.name) if c.computed is None else str(c.computed.sqltext)
        for c in spec.key
        if c.name != "cluster"
    )
    if staging.is_numbered:
        doubt, distinct = "false", "(SELECT count(*) FROM picked)"
        picked = f"SELECT DISTINCT ON ({keys}) {_names(spec)} FROM {staging.name} ORDER BY {keys}, _row DESC"
    else:
        values = ", ".join(f"{staging.values[c.name]} AS {quote(c.name)}" for c in spec.columns)
        typed = f"(SELECT {values}, {staging.doubt} AS _doubt FROM {staging.name}) AS typed"
        is_found = f"coalesce(bool_or(_doubt), false) OR count(*) <> count(DISTINCT ({keys}))"
        doubt, distinct = f"(SELECT {is_found} FROM {typed})", "NULL"
        picked = f"SELECT {_names(spec)} FROM {typed} WHERE NOT (SELECT found FROM doubt) ORDER BY {keys}"
    key_names = {c.name for c in spec.key}
    changing = [c for c in spec.columns if c.name not in key_names]
    merged = {quote(c.name): _merged(c) for c in changing}
    differs = f"({', '.join(f't.{name}' for name in merged)}) IS DISTINCT FROM ({', '.join(merged.values())})"
    merged["synced_at"] = "now()"
    if spec.kind == "snapshot":
        merged["removed_at"] = "NULL"
        differs = f"({differs} OR t.removed_at IS NOT NULL)"
    newer = ""
    if spec.newer_by:
        stamp = quote(spec.newer_by)
        newer = f"\n      AND (t.{stamp} IS NULL OR excluded.{stamp} >= t.{stamp})"
    return f"""
WITH doubt AS MATERIALIZED (
    SELECT {doubt} AS found
), picked AS (
    {picked}
), merged AS (
    INSERT INTO {spec.table.fullname} AS t (cluster, {_names(spec)})
    SELECT :cluster, {_names(spec)} FROM picked
    ON CONFLICT ({", ".join(quote(c.name) for c in spec.key)}) DO UPDATE
    SET {", ".join(f"{name} = {value}" for name, value in merged.items())}
    WHERE {differs}{newer}
    RETURNING t.xmax = 0 AS inserted
)
SELECT {distinct}, count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted),
       (SELECT found FROM doubt)
FROM merged"""


def remember_statements(spec: SyncSpec, staging: Staging) -> list[str]:
    """What notes the keys of a snapshot's batch in a temporary table, as long-lived as the session."""
    keys = [c.name for c in spec.key if c.name != "cluster"]
    names = ", ".join(map(quote, keys))
    values = ", ".join(staging.values[key] for key in keys)
    return [
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {_seen(spec)} AS "
        f"SELECT {names} FROM {spec.table.fullname} WITH NO DATA",
        f"INSERT INTO {_seen(spec)} SELECT {values} FROM {staging.name}",
    ]


def removal_statement(spec: SyncSpec) -> str:
    """The statement that marks the rows of a snapshot that no batch has held; its parameter is `cluster`."""
    names = [quote(c.name) for c in spec.key if c.name != "cluster"]
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
    name = quote(column.name)
    merge = column.info["merge"]
    return f"excluded.{name}" if merge == "replace" else f"{merge}(t.{name}, excluded.{name})"


def _seen(spec: SyncSpec) -> str:
    return f"seen_{spec.table.name}"


def _names(spec: SyncSpec) -> str:
    return ", ".join(quote(c.name) for c in spec.columns)


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
        self._undecoded: dict[tuple[tuple[str, ...], tuple[str, ...]], Staging | None] = {}

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
        if isinstance(page, UndecodedPage) and (staging := self._staging_of(page)):
            data = copy_binary(page.bodies)
            try:
                return self._transaction(size, [], partial(self._merge, staging, "binary", data, size))
            except Exception as error:
                if not isinstance(error, _Doubt) and classify(error) is not ErrorClass.ROW:
                    raise
        rows, rejected = transform(self._spec, page.decoded())
        try:
            return self._transaction(size, rejected, partial(self._merge_rows, rows))
        except Exception as error:
            if classify(error) is not ErrorClass.ROW:
                raise
        return self._transaction(size, rejected, partial(self._split, rows))

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
            raise _Doubt
        if self._spec.kind == "snapshot":
            for statement in remember_statements(self._spec, staging):
                connection.execute(sa.text(statement))
        counts.inserted += inserted
        counts.updated += updated
        keys = size if keys is None else keys
        counts.unchanged += keys - inserted - updated
        counts.duplicates += size - keys

    def _staging_of(self, page: UndecodedPage) -> Staging | None:
        """Where rows of these types are copied into as they are, None if they cannot be."""
        come = page.columns, tuple(t.name for t in page.types)
        if come not in self._undecoded:
            self._undecoded[come] = undecoded(self._spec, *come)
        return self._undecoded[come]

    def _refused(self, row: Row, error: Exception) -> Rejected:
        diagnosis = getattr(getattr(error, "orig", None) or error, "diag", None)
        found = _AT_COLUMN.search(getattr(diagnosis, "context", None) or "")
        column = found[1] if found else getattr(diagnosis, "column_name", None)
        names = [c.name for c in self._spec.columns]
        return Rejected(column, f"PostgreSQL: {message(error)}", dict(zip(names, row, strict=True)))


def copy_binary(bodies: Sequence[bytes]) -> bytes:
    """Bodies of DataRow messages as COPY's binary format.

    https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS-BINARY
    """
    return b"".join([b"PGCOPY\n\xff\r\n\0", bytes(8), *bodies, b"\xff\xff"])


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
