"""What a sync job is: one SQLAlchemy table, and the Redshift statement that fills it.

The table is the one source of truth: DDL, coercion, the statement's select list, the merge and the schema
that Dagster shows are all read from it. Nothing here knows Dagster or a connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

SCHEMA = "quper"
METADATA = sa.MetaData(schema=SCHEMA)

Merge = Literal["replace", "least", "greatest"]


def column(
    name: str,
    type_: sa.types.TypeEngine[Any],
    comment: str,
    *,
    reads: str | Sequence[str] | None = None,
    sql: str | None = None,
    padded: bool = False,
    merge: Merge = "replace",
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
    """
    sources = (reads,) if isinstance(reads, str) else tuple(reads or (name,))
    if sql is None:
        sql = f'"{sources[0]}"'
    return sa.Column(
        name,
        type_,
        comment=comment,
        info={"reads": sources, "sql": f"RTRIM({sql})" if padded else sql, "merge": merge},
    )


def derived(
    name: str, type_: sa.types.TypeEngine[Any], comment: str, sql: str, *, reads: str | Sequence[str]
) -> sa.Column[Any]:
    """A column that PostgreSQL computes from its own row (a stored generated column).

    Args:
        sql: an immutable PostgreSQL expression over the table's other columns.
        reads: source columns that the expression rests on, for the lineage.
    """
    sources = (reads,) if isinstance(reads, str) else tuple(reads)
    return sa.Column(name, type_, sa.Computed(sql, persisted=True), comment=comment, info={"reads": sources})


def linked(
    name: str, type_: sa.types.TypeEngine[Any], comment: str, *, reads: Sequence[str]
) -> sa.Column[Any]:
    """A column that the statement does not read: the job's `after_load` fills it from another quper table."""
    return sa.Column(name, type_, comment=comment, info={"reads": tuple(reads)})


def quper_table(
    name: str,
    *columns: sa.Column[Any],
    key: Sequence[str],
    comment: str,
    indexes: Sequence[Sequence[str]] = (),
) -> sa.Table:
    """A target table in schema quper, with `cluster` first in its key and `synced_at` as its last column.

    Args:
        key: the columns that identify a row within one cluster.
        indexes: further indexes, each a list of columns after `cluster`; `x DESC` sorts newest or longest
            first, without the NULLs.
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
    for names in indexes:
        bare = [n.removesuffix(" DESC") for n in names]
        terms = [
            table.c[b].desc().nulls_last() if n != b else table.c[b] for n, b in zip(names, bare, strict=True)
        ]
        sa.Index("_".join([name, *bare, "idx"]), table.c.cluster, *terms)
    return table


@dataclass(frozen=True)
class SyncSpec:
    """One sync job.

    Attributes:
        sync_job_id: its name in quper.sync_logs.
        table: the target, made by `quper_table`.
        kind: `snapshot` if the source shows the present state, `history` if it is a log that ages out.
        description: what the table is for, for its readers.
        sources: the Redshift views that are read, the main one first.
        tail: the statement after its select list, from `FROM` on. A history is sorted by time, so that the
            last of two rows with one key is the newest, and an interrupted read leaves no hole behind it.
        newer_by: a timestamp column; a known row gives way only to one that is not older by it.
        after_load: a statement with the parameter `cluster` to run after the last batch.
    """

    sync_job_id: str
    table: sa.Table
    kind: Literal["snapshot", "history"]
    description: str
    sources: tuple[str, ...]
    tail: str
    newer_by: str | None = None
    after_load: sa.Executable | None = None

    @property
    def key(self) -> list[sa.Column[Any]]:
        """The primary key, `cluster` first."""
        return list(self.table.primary_key.columns)

    @property
    def columns(self) -> list[sa.Column[Any]]:
        """The columns that the Redshift statement delivers."""
        return [c for c in self.table.c if "sql" in c.info]

    @property
    def statement(self) -> str:
        """The SELECT to run in Redshift; its labels are the names of `columns`."""
        select = ",\n       ".join(f'{c.info["sql"]} AS "{c.name}"' for c in self.columns)
        return f"SELECT {select}\n{self.tail.strip()}"

    def lineage(self) -> Iterator[tuple[str, str, str]]:
        """(target column, Redshift view, source column) for every source of every column."""
        for c in self.table.c:
            for source in c.info.get("reads", ()):
                view, _, name = source.rpartition(".")
                yield c.name, view or self.sources[0], name
