"""Findings of the doctor."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Side = Literal["settings", "redshift", "postgres", "dagster"]

# A larger difference between clocks is a problem.
MAX_CLOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    side: Side
    what: str  # the subject
    detail: str  # the result
    remedy: str | None = None  # SQL or setting that fixes the problem; None if there is no problem
    cluster: str | None = None  # one of several clusters, if the check concerns one

    @property
    def where(self) -> str:
        """The side, with the cluster."""
        return f"{self.side} {self.cluster}" if self.cluster else self.side

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return self.remedy is None


def check_clock(side: Side, before: datetime, server_time: datetime, after: datetime, remedy: str) -> Finding:
    """Compare the clock of a server with this machine's, which was read before and after it."""
    offset = (server_time - before - (after - before) / 2).total_seconds()
    tolerance = MAX_CLOCK_SECONDS + (after - before).total_seconds() / 2
    detail = f"{abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} this machine"
    return Finding(side, "time", detail, remedy if abs(offset) > tolerance else None)
