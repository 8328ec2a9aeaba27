"""Target tables in schema quper, as SQLAlchemy tables whose columns carry their source expression."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from qupersync_assets.spec.source_variant import source_expression

SCHEMA = "quper"
METADATA = sa.MetaData(schema=SCHEMA)
# The type of times, which are in UTC.
UTC_TIME = sa.DateTime(timezone=True)
# Of the column `cluster` of all tables and views.
CLUSTER_COMMENT = "name of the Redshift cluster: CLUSTER_NAME, or one of CLUSTERS"
ColumnType: TypeAlias = sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]]
Merge = Literal["replace", "least", "greatest", "coalesce"]
Sensitive = Literal["sql", "message", "data"]


def column(
    name: str,
    type_: ColumnType,
    comment: str,
    reads: str | Sequence[str] | None = None,
    sql: str | None = None,
    *,
    padded: bool = False,
    merge: Merge = "replace",
    sensitive: Sensitive | None = None,
) -> sa.Column[Any]:
    """Define a target column and the source of its value.

    Args:
        name: name in PostgreSQL, and the label in the Redshift statement.
        type_: PostgreSQL type; source values are coerced to it.
        comment: shown to readers, in PostgreSQL and in Dagster.
        reads: source columns, as `column` (of the job's first source) or `view.column`; `name` by default. Empty if
            only alternatives of the job's first variant have the value.
        sql: Redshift expression; by default the source column itself.
        padded: the source is char(n); Redshift removes its blank padding.
        merge: how a new value is merged into a known row: it replaces the old value; the least or the greatest
            of all values is kept; or (`coalesce`) a NULL does not replace a known value.
        sensitive: the value may quote customers' data, which SYNC_QUERY_TEXT can hide: `sql` is the text of
            a statement, `message` is a sentence about the statements of its row, `data` are data themselves.
    """
    expression = source_expression(name if reads is None else reads, sql, padded=padded)
    info = {"source_expression": expression, "merge": merge, "sensitive": sensitive}
    return sa.Column(name, type_, comment=comment, info=info)


def generated_column(
    name: str, type_: ColumnType, comment: str, sql: str, *, of: str | Sequence[str]
) -> sa.Column[Any]:
    """Define a stored generated column, which PostgreSQL computes from its own row.

    `sql` is an immutable PostgreSQL expression over the table's other columns; `of` lists them, for the lineage.
    """
    info = {"generated_from": (of,) if isinstance(of, str) else tuple(of)}
    return sa.Column(name, type_, sa.Computed(sql, persisted=True), comment=comment, info=info)


def filled_after_load(name: str, type_: ColumnType, comment: str, *, reads: Sequence[str]) -> sa.Column[Any]:
    """Define a column that the job's `after_load` statement fills from another quper table.

    `reads` lists the source columns of that table, as `view.column`, for the lineage.
    """
    return sa.Column(name, type_, comment=comment, info={"filled_from": tuple(reads)})


def quper_table(
    name: str,
    *columns: sa.Column[Any],
    key: Sequence[str],
    comment: str,
    indexes: Sequence[Sequence[str]] = (),
    shared_indexes: Sequence[Sequence[str]] = (),
    finds_written: bool = False,
) -> sa.Table:
    """Define a target table in schema quper; `cluster` comes first in its key, `synced_at` last.

    `key` identifies a row within one cluster. `indexes` are further indexes, each a list of columns after `cluster`;
    `shared_indexes` have no `cluster`, for queries over all clusters. A last term `WHERE ...` makes a partial index.
    `finds_written` adds an index of a few pages that finds the rows that were written last.
    """
    cluster = sa.Column("cluster", sa.Text, nullable=False, comment=CLUSTER_COMMENT)
    written = "when this version of the row was written (UTC)"
    synced_at = sa.Column("synced_at", UTC_TIME, nullable=False, server_default=sa.func.now(), comment=written)
    table = sa.Table(name, METADATA, cluster, *columns, synced_at, comment=comment)
    for key_column in key:
        table.c[key_column].nullable = False
    table.append_constraint(sa.PrimaryKeyConstraint("cluster", *(table.c[k] for k in key), name=f"{name}_pkey"))
    for terms in indexes:
        _index(table, name, ["cluster", *terms], terms)
    for terms in shared_indexes:
        _index(table, f"{name}_all", terms, terms)
    if finds_written:
        # https://www.postgresql.org/docs/current/brin.html: rows are written in the order of this time.
        options: dict[str, Any] = {"postgresql_using": "brin", "postgresql_with": {"autosummarize": "on"}}
        sa.Index(f"{name}_synced_at_idx", synced_at, **options)
    return table


def _index(table: sa.Table, prefix: str, terms: Sequence[str], named: Sequence[str]) -> None:
    """Add an index, whose name has the columns of `named`.

    All columns are ascending: PostgreSQL scans backwards for `ORDER BY x DESC`, and a new row costs less at the end
    of an index than at its start.
    """
    where = next((sa.text(t.removeprefix("WHERE ")) for t in terms if t.startswith("WHERE ")), None)
    names = [t for t in named if not t.startswith("WHERE ")]
    columns = [table.c[t] for t in terms if not t.startswith("WHERE ")]
    sa.Index("_".join([prefix, *names, "idx"]), *columns, postgresql_where=where)
