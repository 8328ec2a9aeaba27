"""A problem of an installation: what people are alerted to, and why it is not healthy."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum


class Severity(IntEnum):
    """How urgent a problem is; ALERT_SEVERITY names the lowest one that is sent."""

    WARNING = 1
    ERROR = 2

    @property
    def label(self) -> str:
        """The name in settings and messages."""
        return self.name.lower()


@dataclass(frozen=True)
class Problem:
    """One cause, with all jobs that it affects."""

    key: str  # the same for the same cause
    summary: str  # a few words, without numbers that change
    cause: str
    action: str  # what to do
    severity: Severity = Severity.ERROR
    cluster: str | None = None
    jobs: tuple[str, ...] = ()
    since: datetime | None = None  # UTC

    @property
    def title(self) -> str:
        """The title of its messages."""
        return f"QuperSync{f', cluster {self.cluster}' if self.cluster else ''}: {self.summary}"

    def __str__(self) -> str:
        since = f" Since {in_utc(self.since)}." if self.since else ""
        jobs = f" Jobs: {', '.join(self.jobs)}." if self.jobs else ""
        return f"{self.summary}. {self.cause}{since}{jobs} {self.action}"


def in_utc(at: datetime) -> str:
    """Return a time for people."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
