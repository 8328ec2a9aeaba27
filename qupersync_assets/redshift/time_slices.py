"""Slices of a result by time, for a result that is larger than Redshift allows for a cursor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from qupersync_assets.spec import timestamp_literal

_SHORTEST = timedelta(minutes=1)


@dataclass(frozen=True)
class TimeSlices:
    """A slice of the rows of a SELECT: from `start` to before `end` (UTC), by the column with the label `column`.

    The first slice also has older rows and those without a time, the last one also later rows.
    """

    column: str
    start: datetime
    end: datetime
    is_first: bool = True
    is_last: bool = True

    @property
    def halves(self) -> tuple[TimeSlices, ...]:
        """The two halves, the older one first; none if they would be too short."""
        if self.end - self.start < 2 * _SHORTEST:
            return ()
        middle = self.start + (self.end - self.start) / 2
        return replace(self, end=middle, is_last=False), replace(self, start=middle, is_first=False)

    def statement(self, sql: str) -> str:
        """Return the SELECT for the rows of this slice, in the order of time."""
        name = f'"{self.column}"'
        conditions = []
        if not self.is_last:
            before = f"{name} < {timestamp_literal(self.end)}"
            conditions.append(f"({before} OR {name} IS NULL)" if self.is_first else before)
        if not self.is_first:
            conditions.append(f"{name} >= {timestamp_literal(self.start)}")
        if not conditions:
            return sql
        return f"SELECT * FROM (\n{sql}\n) AS whole WHERE {' AND '.join(conditions)} ORDER BY {name}"
