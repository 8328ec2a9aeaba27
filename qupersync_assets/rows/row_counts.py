"""What became of the rows of a load."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass, field
from typing import Any


@dataclass(frozen=True)
class SkippedRow:
    """A row that was not loaded: the first invalid column if it is known, the reason, the values by column, and the
    valid values of its key."""

    column: str | None
    reason: str
    row: dict[str, Any]
    key: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RowCounts:
    """Counts of one load or of one batch; extracted = upserted + duplicates + skipped always holds."""

    extracted: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0
    skipped: int = 0
    batches: int = 0
    removed: int = 0  # rows of the target that the source no longer has; they are not among the extracted rows
    undecided: int = 0  # rows of the target of which the load does not know whether the source still has them

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def upserted(self) -> int:
        """Rows that the target now holds as read: inserted + updated + unchanged."""
        return self.inserted + self.updated + self.unchanged

    def columns(self) -> dict[str, int]:
        """Return the counts by column of quper.sync_logs; rows_upserted is generated there."""
        names = {"batches": "batches", "duplicates": "rows_duplicate"}
        return {names.get(name, f"rows_{name}"): count for name, count in asdict(self).items()}
