"""Findings of the doctor."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

Side = Literal["settings", "redshift", "postgres"]

# A larger difference between clocks is a problem.
MAX_CLOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        side: the system that was checked.
        what: the subject.
        detail: the result.
        remedy: SQL or setting that fixes the problem; None if there is no problem.
        cluster: one of several clusters; None if there is only one, or it does not concern a cluster.
    """

    side: Side
    what: str
    detail: str
    remedy: str | None = None
    cluster: str | None = None

    @property
    def where(self) -> str:
        """The side, with the cluster."""
        return f"{self.side} {self.cluster}" if self.cluster else self.side

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return self.remedy is None

    def as_json(self) -> dict[str, Any]:
        """Return the fields and `ok`."""
        return {**asdict(self), "ok": self.ok}


def check_clock(side: Side, before: datetime, server_time: datetime, after: datetime, remedy: str) -> Finding:
    """Compare the clock of a server with this machine's, which was read before and after it."""
    offset = (server_time - before - (after - before) / 2).total_seconds()
    tolerance = MAX_CLOCK_SECONDS + (after - before).total_seconds() / 2
    detail = f"{abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} this machine"
    return Finding(side, "time", detail, remedy if abs(offset) > tolerance else None)
