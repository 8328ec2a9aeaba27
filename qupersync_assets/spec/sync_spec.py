"""What a sync job is: one SQLAlchemy table, and the Redshift statements that can fill it.

The table is the one source of truth: DDL, coercion, the statements' select lists, the merge and the schema
that Dagster shows are all read from it. Nothing here knows Dagster or a connection.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from qupersync_assets.spec.redshift_views import column_types

SCHEMA = "quper"
METADATA = sa.MetaData(schema=SCHEMA)

# How long Redshift keeps its history: https://docs.aws.amazon.com/redshift/latest/dg/c_intro_STL_tables.html
RETENTION = timedelta(days=7)

Merge = Literal["replace", "least", "greatest"]
Sensitive = Literal["sql", "message"]


class Reading(NamedTuple):
    """Where the value of a target column comes from.

    Attributes:
        reads: source columns, as `column` (of the first source) or `view.column`.
        sql: Redshift expression.
    """

    reads: tuple[str, ...]
    sql: str


def reading(reads: str | Sequence[str], sql: str | None = None, *, padded: bool = False) -> Reading:
    """A Reading; `sql` is the source column itself by default, `padded` takes the padding of char(n) off."""
    sources = (reads,) if isinstance(reads, str) else tuple(reads)
    if sql is None:
        sql = f'"{sources[0]}"'
    return Reading(sources, f"RTRIM({sql})" if padded else sql)


def column(
    name: str,
    type_: sa.types.TypeEngine[Any],
    comment: str,
    *,
    reads: str | Sequence[str] | None = None,
    sql: str | None = None,
    padded: bool = False,
    merge: Merge = "replace",
    sensitive: Sensitive | None = None,
) -> sa.Column[Any]:
    """A target column and where its value comes from.

    Args:
        name: name in PostgreSQL, and the label in the Redshift statement.
        type_: PostgreSQL type; source values are coerced to it.
        comment: shown to readers, in PostgreSQL and in Dagster.
        reads: source columns, as `column` (of the job's first source) or `view.column`; `name` by default.
        sql: Redshift expression; by default the source column itself.
        padded: the source is char(n), whose blank padding is removed in Redshift already.
        merge: what happens when the row is known: the new value replaces the old one, or the least or the
            greatest ever seen is kept.
        sensitive: the value may quote customers' data, which SYNC_QUERY_TEXT can hide: `sql` is text of
            statements, `message` a sentence about the statements of its row.
    """
    info = {"reading": reading(reads or name, sql, padded=padded), "merge": merge, "sensitive": sensitive}
    return sa.Column(name, type_, comment=comment, info=info)


def derived(
    name: str, type_: sa.types.TypeEngine[Any], comment: str, sql: str, *, of: str | Sequence[str]
) -> sa.Column[Any]:
    """A column that PostgreSQL computes from its own row (a stored generated column).

    Args:
        sql: an immutable PostgreSQL expression over the table's other columns.
        of: these columns, for the lineage.
    """
    info = {"of": (of,) if isinstance(of, str) else tuple(of)}
    return sa.Column(name, type_, sa.Computed(sql, persisted=True), comment=comment, info=info)


def linked(
    name: str, type_: sa.types.TypeEngine[Any], comment: str, *, reads: Sequence[str]
) -> sa.Column[Any]:
    """A column that the statement does not read: the job's `after_load` fills it from another quper table."""
    return sa.Column(name, type_, comment=comment, info={"linked": tuple(reads)})


def quper_table(
    name: str,
    *columns: sa.Column[Any],
    key: Sequence[str],
    comment: str,
    indexes: Sequence[Sequence[str]] = (),
) -> sa.Table:
    """A target table in schema quper, with `cluster` first in its key and `synced_at` after its columns.

    Args:
        key: the columns that identify a row within one cluster.
        indexes: further indexes, each a list of columns after `cluster`; `x DESC` is for those who ask for
            the newest or longest first, with the NULLs last, and `WHERE ...` at the end says which rows are
            in it.
    """
    table = sa.Table(
        name,
        METADATA,
        sa.Column("cluster", sa.Text, nullable=False, comment="CLUSTER_NAME of the source cluster"),
        *columns,
        sa.Column(
            "synced_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
            comment="when this version of the row was written (UTC)",
        ),
        comment=comment,
    )
    for key_column in key:
        table.c[key_column].nullable = False
    table.append_constraint(
        sa.PrimaryKeyConstraint("cluster", *(table.c[k] for k in key), name=f"{name}_pkey")
    )
    for terms in indexes:
        where = next((sa.text(t.removeprefix("WHERE ")) for t in terms if t.startswith("WHERE ")), None)
        names = [t for t in terms if not t.startswith("WHERE ")]
        bare = [n.removesuffix(" DESC") for n in names]
        # To be read backwards: new rows at the end of an index cost less than at its beginning.
        keys = [
            table.c[b].asc().nulls_first() if n != b else table.c[b] for n, b in zip(names, bare, strict=True)
        ]
        sa.Index("_".join([name, *bare, "idx"]), table.c.cluster, *keys, postgresql_where=where)
    return table


class Window(NamedTuple):
    """What of a history is read.

    Attributes:
        why: in words, for people.
        since: rows from that time on (UTC); None: all that Redshift holds.
        unfinished: keys of rows that are read whatever their time, because they may have changed.
        known_from: the source of the known rows, by name, and what it lacked: from another all is read.
    """

    why: str
    since: datetime | None = None
    unfinished: tuple[int, ...] = ()
    known_from: tuple[str | None, str | None] = (None, None)


WHOLE = Window("always read whole")


@dataclass(frozen=True)
class Variant:
    """One way to fill a job's table: views that some clusters have, and the statement over them.

    Attributes:
        sources: the Redshift views that are read, the main one first.
        tail: the statement after its select list, from `FROM` on. A history is sorted by time, so that the
            last of two rows with one key is the newest, and an interrupted read leaves no hole behind it.
            In it, {since} stands for the time (UTC) from which on rows are read, {unfinished} for a list of
            keys, {ours} for whether our own queries are wanted; without {since} all is read each time.
        readings: by target column; a column without one is NULL, because these views cannot tell it.
        needs: source columns that only the tail uses, as `column` or `view.column`.
    """

    sources: tuple[str, ...]
    tail: str
    readings: Mapping[str, Reading]
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The views, as logs and metadata name the variant."""
        return ", ".join(self.sources)

    def located(self, reads: Sequence[str]) -> Iterator[tuple[str, str]]:
        """(view, column) of each source column."""
        for source in reads:
            view, _, name = source.rpartition(".")
            yield view or self.sources[0], name


@dataclass(frozen=True)
class SyncSpec:
    """One sync job.

    Attributes:
        sync_job_id: its name in quper.sync_logs.
        table: the target, made by `quper_table`.
        kind: `snapshot` if the source shows the present state, `history` if it is a log that ages out.
        description: what the table is for, for its readers.
        sources, tail, needs: the preferred variant, whose readings are those of the table's columns.
        alternatives: further variants, for clusters that lack the views or do not let us read them.
        time_column: of a history: the column that says when a row happened.
        oldest: what {since} stands for when all is read, a Redshift expression.
        logged_late: rows appear when their query ends, and carry the time when it began.
        unfinished: a condition on the table under which a row may still change in Redshift.
        newer_by: a timestamp column; a known row gives way only to one that is not older by it.
        after_load: a statement with the parameter `cluster` to run after the last batch.
        still_there: for a snapshot whose source leaves rows out: a condition under which the table's row `t`
            is there although it was not read.
    """

    sync_job_id: str
    table: sa.Table
    kind: Literal["snapshot", "history"]
    description: str
    sources: tuple[str, ...]
    tail: str
    needs: tuple[str, ...] = ()
    alternatives: tuple[Variant, ...] = ()
    time_column: str | None = None
    oldest: str = f"GETDATE() - INTERVAL '{RETENTION.days} days'"
    logged_late: bool = False
    unfinished: str | None = None
    newer_by: str | None = None
    after_load: sa.Executable | None = None
    still_there: str | None = None

    def __post_init__(self) -> None:
        if self.kind == "snapshot" and "removed_at" not in self.table.c:
            comment = "when a complete read first lacked this row (UTC); NULL while it is in the source"
            self.table.append_column(sa.Column("removed_at", sa.DateTime(timezone=True), comment=comment))

    @property
    def key(self) -> list[sa.Column[Any]]:
        """The primary key, `cluster` first."""
        return list(self.table.primary_key.columns)

    @property
    def columns(self) -> list[sa.Column[Any]]:
        """The columns that the Redshift statement delivers."""
        return [c for c in self.table.c if "reading" in c.info]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All variants in the order of preference."""
        readings = {c.name: c.info["reading"] for c in self.columns}
        return (Variant(self.sources, self.tail, readings, self.needs), *self.alternatives)

    @property
    def all_sources(self) -> list[str]:
        """The views of all variants, in the order of preference."""
        return list(dict.fromkeys(view for variant in self.variants for view in variant.sources))

    def used(self, variant: Variant) -> dict[str, set[str]]:
        """The columns that a variant's statement uses, by view."""
        reads = [source for r in variant.readings.values() for source in r.reads]
        used: dict[str, set[str]] = {view: set() for view in variant.sources}
        for view, name in variant.located([*reads, *variant.needs]):
            used[view].add(name)
        return used

    def indispensable(self, variant: Variant) -> set[tuple[str, str]]:
        """(view, column) of the source columns without which a variant cannot be read: those of the key, of
        the column that tells newer from older, and of the tail."""
        names = {base for c in self.key for base in c.info.get("of", (c.name,))} | {self.newer_by}
        reads = [source for name, r in variant.readings.items() if name in names for source in r.reads]
        return set(variant.located([*reads, *variant.needs]))

    @property
    def is_incremental(self) -> bool:
        """Whether its statements can leave out what was read before."""
        return self.time_column is not None and any("{since}" in v.tail for v in self.variants)

    def statement(
        self,
        variant: Variant,
        missing: Collection[tuple[str, str]] = (),
        window: Window = WHOLE,
        ours: bool = False,
        narrow: Collection[tuple[str, str]] = (),
    ) -> str:
        """The SELECT to run in Redshift; its labels are the names of `columns`.

        Args:
            missing: (view, column) of the source columns that this cluster lacks; they are read as NULL.
            window: what of a history to read.
            ours: whether our own queries are wanted, which carry the label qupersync.
            narrow: (view, column) of integers of fewer than 64 bits; they come in the width of their target.
        """
        since = self.oldest
        if window.since is not None:
            since = f"'{window.since.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'::timestamp"
        unfinished = ", ".join(str(int(key)) for key in window.unfinished) or "NULL"
        tail = variant.tail.strip().replace("{since}", since).replace("{unfinished}", unfinished)
        tail = tail.replace("{ours}", "1 = 1" if ours else "1 = 0")
        select = ",\n       ".join(f'{_selected(variant, c, narrow)} AS "{c.name}"' for c in self.columns)
        statement = f"SELECT {select}\n{tail}"
        completed = []
        for view in dict.fromkeys(view for view, _ in sorted(missing)):
            # A name that nobody uses stands for the view with its missing columns; 'view' is a text.
            statement = re.sub(rf"(?<!')\b{view}\b", f"qupersync_{view}", statement)
            columns = ", ".join(
                f'NULL::{column_types(view).get(name, "varchar")} AS "{name}"'
                if (view, name) in missing
                else f'"{name}"'
                for name in sorted(self.used(variant)[view])
            )
            completed.append(f"qupersync_{view} AS (SELECT {columns} FROM {view})")
        return f"WITH {', '.join(completed)}\n{statement}" if completed else statement

    def lineage(self) -> list[tuple[str, str, str]]:
        """(target column, Redshift view, source column) for every source of every column, in all variants."""
        found: dict[tuple[str, str, str], None] = {}
        for variant in self.variants:
            for c in self.table.c:
                bases = [c.name] if "reading" in c.info else c.info.get("of", ())
                reads = [s for base in bases for s in variant.readings.get(base, Reading((), "")).reads]
                for view, name in variant.located([*reads, *c.info.get("linked", ())]):
                    found[c.name, view, name] = None
        return list(found)


def _selected(variant: Variant, column: sa.Column[Any], narrow: Collection[tuple[str, str]]) -> str:
    """The Redshift expression for a target column."""
    if column.name not in variant.readings:
        return _null(column.type)
    reads, sql = variant.readings[column.name]
    is_plain = [f'"{name}"' for name in reads] == [sql]
    if isinstance(column.type, sa.BigInteger) and is_plain and next(variant.located(reads)) in narrow:
        return f"{sql}::bigint"
    return sql


def _null(type_: sa.types.TypeEngine[Any]) -> str:
    """NULL in the Redshift type that becomes a PostgreSQL type."""
    if isinstance(type_, sa.DateTime):
        return "NULL::timestamp"
    if isinstance(type_, sa.Text):
        return "NULL::varchar"
    return f"NULL::{type_.compile(postgresql.dialect()).lower()}"  # type: ignore[no-untyped-call]
