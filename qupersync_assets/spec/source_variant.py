"""A source variant: the Redshift views that can fill a table, and the statement over them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class SourceExpression(NamedTuple):
    """The Redshift expression of a target column, and the source columns that it reads, each as `column` (of the
    variant's first view) or as `view.column`."""

    reads: tuple[str, ...]
    sql: str


def source_expression(reads: str | Sequence[str], sql: str | None = None, *, padded: bool = False) -> SourceExpression:
    """Make a SourceExpression, by default of the first source column itself; `padded` is a char(n) column."""
    columns = (reads,) if isinstance(reads, str) else tuple(reads)
    sql = sql or (f'"{columns[0]}"' if columns else "NULL")
    return SourceExpression(columns, f"RTRIM({sql})" if padded else sql)


@dataclass(frozen=True)
class Variant:
    """One way to fill a table: views that some clusters have, and the statement over them.

    Attributes:
        sources: the Redshift views that are read, the main one first.
        from_clause: the statement after its select list, from `FROM` on. A history is sorted by time: the
            newest of two rows with the same key then comes last, and an interrupted read leaves no gap.
            Placeholders: {since} is the time (UTC) from which rows are read; {mutable_keys} is a list of
            keys; {include_own_queries} is a condition. Without {since} each sync reads all rows.
        expressions: source expression of each target column, by column name; a column without one is NULL.
        needs: source columns that only `from_clause` uses, as `column` or `view.column`.
    """

    sources: tuple[str, ...]
    from_clause: str
    expressions: Mapping[str, SourceExpression]
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The views, as quper.sync_logs and metadata name the variant."""
        return ", ".join(self.sources)

    def located(self, reads: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield (view, column) for each source column."""
        for source in reads:
            view, _, name = source.rpartition(".")
            yield view or self.sources[0], name

    def used_columns(self) -> dict[str, set[str]]:
        """Return the source columns that the statement uses, by view."""
        reads = [source for expression in self.expressions.values() for source in expression.reads]
        used: dict[str, set[str]] = {view: set() for view in self.sources}
        for view, name in self.located([*reads, *self.needs]):
            used[view].add(name)
        return used
