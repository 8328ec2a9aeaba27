"""What a sync job is: one target table, and the source variants that can fill it."""

from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from qupersync_assets.spec.daily_history import DailyHistory
from qupersync_assets.spec.source_variant import SourceExpression, Variant
from qupersync_assets.spec.target_table import UTC_TIME
from qupersync_assets.spec.view import View
from qupersync_assets.spec.window import RETENTION


@dataclass(frozen=True)
class SyncSpec:
    """One sync job.

    Attributes:
        sync_job_id: its name in quper.sync_logs.
        table: the target, made by `quper_table`.
        kind: `snapshot` if the source shows the present state, `history` if it is a log that ages out.
        description: the purpose of the table, for its readers.
        sources, from_clause, needs: the preferred variant; its expressions are those of the table's columns.
        alternatives: further variants, for clusters that lack these views or do not let the user read them.
        time_column: of a history: the column with the time of a row.
        full_read_since: a Redshift expression that replaces {since} in a full read.
        late_arriving: Redshift logs a row when its query ends, with the time when the query began.
        mutable_where: a condition on the table; a row that meets it may still change in Redshift. If Redshift no longer
            lists the row, its `status` becomes UNKNOWN, which must not meet the condition.
        version_column: a timestamp column; a known row is not replaced by one that is older by this column.
        times: of rows that Redshift numbers: the columns with start and end, or twice the start. A known number
            with other times is that of another row.
        after_load: a statement to run after the last batch, for the rows that were written since the job's last
            success. Its parameters are `cluster`; `written_since`, which `synced_at` of these rows is not before; and
            `read_since`, which their time is not before. NULL: any row may have been written.
        present_where: for a snapshot whose source leaves rows out: a condition on the table's row `t`; a row
            that meets it is present in Redshift even if it was not read.
        optional: the job runs only if SYNC_JOBS names it.
        transient: for a snapshot whose rows come and go: the source may have none.
        daily: the daily history of a snapshot.
        views: further views for readers.
        database_column: for a snapshot whose views show the connected database alone: the column of the key with
            its name. Each of REDSHIFT_DATABASES is read, and rows of the others are left alone.
    """

    sync_job_id: str
    table: sa.Table
    kind: Literal["snapshot", "history"]
    description: str
    sources: tuple[str, ...]
    from_clause: str
    needs: tuple[str, ...] = ()
    alternatives: tuple[Variant, ...] = ()
    time_column: str | None = None
    full_read_since: str = f"GETDATE() - INTERVAL '{RETENTION.days} days'"
    late_arriving: bool = False
    mutable_where: str | None = None
    version_column: str | None = None
    times: tuple[str, str] | None = None
    after_load: sa.Executable | None = None
    present_where: str | None = None
    optional: bool = False
    transient: bool = False
    daily: DailyHistory | None = None
    views: tuple[View, ...] = ()
    database_column: str | None = None

    def __post_init__(self) -> None:
        if self.kind == "snapshot" and "removed_at" not in self.table.c:
            comment = "time of the first complete read without this row (UTC); NULL while the source has it"
            self.table.append_column(sa.Column("removed_at", UTC_TIME, comment=comment))

    @property
    def key(self) -> list[sa.Column[Any]]:
        """The primary key, `cluster` first."""
        return list(self.table.primary_key.columns)

    @property
    def source_key(self) -> list[sa.Column[Any]]:
        """The primary key without `cluster`."""
        return [column for column in self.key if column.name != "cluster"]

    @property
    def key_inputs(self) -> set[str]:
        """The columns of the key, with those that its generated columns are computed from in their place."""
        return {base for column in self.key for base in column.info.get("generated_from", (column.name,))}

    @property
    def columns(self) -> list[sa.Column[Any]]:
        """The columns that the Redshift statement delivers."""
        return [c for c in self.table.c if "source_expression" in c.info]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All variants in the order of preference."""
        expressions = {c.name: e for c in self.columns if (e := c.info["source_expression"]).reads}
        return (Variant(self.sources, self.from_clause, expressions, self.needs), *self.alternatives)

    @property
    def all_sources(self) -> list[str]:
        """The views of all variants, in the order of preference."""
        return list(dict.fromkeys(view for variant in self.variants for view in variant.sources))

    @property
    def tables(self) -> list[sa.Table]:
        """The target table, and that of its daily history."""
        return [self.table, *([self.daily.table] if self.daily else [])]

    @property
    def all_views(self) -> list[View]:
        """The view of a snapshot's rows that are in the source now, that of its daily history, and further ones."""
        found = []
        if self.kind == "snapshot":
            # With `*` a new column is the last one of the view, as in the table.
            query = f"SELECT * FROM {self.table.fullname} WHERE removed_at IS NULL"
            comment = f"Rows of {self.table.fullname} that the source has now. {self.table.comment}"
            columns = {c.name: str(c.comment) for c in self.table.c}
            found.append(View(f"{self.table.name}_current", query, comment, columns))
        return [*found, *([self.daily.view] if self.daily else []), *self.views]

    def required_columns(self, variant: Variant) -> set[tuple[str, str]]:
        """Return (view, column) of what a variant cannot be read without: key, version column and FROM clause."""
        names = {self.version_column, *self.key_inputs}
        reads = [source for name, e in variant.expressions.items() if name in names for source in e.reads]
        return set(variant.located([*reads, *variant.needs]))

    @property
    def is_incremental(self) -> bool:
        """Whether a sync can leave out rows that were read before."""
        return self.time_column is not None and any("{since}" in v.from_clause for v in self.variants)

    def lineage(self) -> list[tuple[str, str, str]]:
        """Return (target column, Redshift view, source column) for each source of each column, in all variants."""
        found: dict[tuple[str, str, str], None] = {}
        for variant in self.variants:
            for c in self.table.c:
                bases = [c.name] if "source_expression" in c.info else c.info.get("generated_from", ())
                expressions = [variant.expressions.get(base, SourceExpression((), "")) for base in bases]
                reads = [source for expression in expressions for source in expression.reads]
                for view, name in variant.located([*reads, *c.info.get("filled_from", ())]):
                    found[c.name, view, name] = None
        return list(found)
