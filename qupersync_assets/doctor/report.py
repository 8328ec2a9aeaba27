"""What the doctor finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

Side = Literal["settings", "redshift", "postgres"]

# Beyond what a slow answer explains.
MOST_SECONDS_APART = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        side: where.
        what: the thing.
        detail: what was found.
        remedy: what to do: a statement or a setting; None if all is well with it.
        cluster: which of several clusters; None if there is one, or it is of no cluster.
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
        """Whether nothing has to be done."""
        return self.remedy is None

    def as_json(self) -> dict[str, Any]:
        """For machines; `ok` says what `remedy` being null says."""
        return {**asdict(self), "ok": self.ok}


def clock(side: Side, before: datetime, theirs: datetime, after: datetime, remedy: str) -> Finding:
    """How far a server's clock is from this machine's, which was read before and after it."""
    ahead = (theirs - before - (after - before) / 2).total_seconds()
    slack = (after - before).total_seconds() / 2
    apart = max(abs(ahead) - slack, 0.0)
    detail = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine"
    return Finding(side, "time", detail, remedy if apart > MOST_SECONDS_APART else None)
