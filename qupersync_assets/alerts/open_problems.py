"""The problems that were reported to one URL, and the messages about them: one per problem, and one when it is over."""

import hashlib
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from pydantic import BaseModel

from qupersync_assets.alerts.apprise_notifier import Alert, AlertKind
from qupersync_assets.core.redaction import redact
from qupersync_assets.sync.problems import Problem, Severity, in_utc

_KINDS = {Severity.WARNING: AlertKind.WARNING, Severity.ERROR: AlertKind.ERROR}


class OpenProblem(BaseModel):
    """A problem that was reported and is not over."""

    title: str
    since: datetime
    jobs: list[str] = []  # those that it still affects


OpenProblems = dict[str, OpenProblem]


def report(open_problems: OpenProblems, problem: Problem, link: str = "") -> Alert | None:
    """Note a problem; return its message, None if it was reported before."""
    known = open_problems.get(problem.key)
    if known is not None:
        known.jobs = sorted({*known.jobs, *problem.jobs})
        return None
    since = problem.since or datetime.now(UTC)
    found = OpenProblem(title=redact(problem.title), since=since, jobs=sorted(problem.jobs))
    open_problems[problem.key] = found
    lines = [
        f"{problem.severity.label.capitalize()} since {in_utc(since)}.",
        f"Cause: {_on_one_line(problem.cause)}",
        *([f"Jobs ({len(found.jobs)}): {', '.join(found.jobs)}"] if found.jobs else []),
        *([f"What to do: {_on_one_line(problem.action)}"] if problem.action else []),
        *([link] if link else []),
        f"The next message about this problem follows when it is over. Alert {_identifier(problem.key, since)}.",
    ]
    return Alert(found.title, "\n".join(map(redact, lines)), _KINDS[problem.severity])


def end(open_problems: OpenProblems, key: str, jobs: Collection[str] | None = None) -> Alert | None:
    """Note that a problem does not affect `jobs` any more (None: it is over); return the message if it is over.

    Its title is that of the first message: services that match alerts by their title close the incident.
    """
    known = open_problems.get(key)
    if known is None:
        return None
    if jobs is not None:
        known.jobs = [job for job in known.jobs if job not in jobs]
        if known.jobs:
            return None
    del open_problems[key]
    now = datetime.now(UTC)
    minutes = max(0, round((now - known.since).total_seconds() / 60))
    body = f"Recovered at {in_utc(now)}, after {minutes} minutes. Alert {_identifier(key, known.since)}."
    return Alert(known.title, body, AlertKind.RECOVERY)


def is_sent(problem: Problem, lowest: str) -> bool:
    """Return whether a problem has the severity of ALERT_SEVERITY or a higher one."""
    return problem.severity >= Severity[lowest.upper()]


def wanted(alerts: Iterable[Alert | None]) -> list[Alert]:
    """Return the messages among the results of `report` and `end`."""
    return [alert for alert in alerts if alert is not None]


def _identifier(key: str, since: datetime) -> str:
    return hashlib.sha256(f"{key} {since.isoformat()}".encode()).hexdigest()[:8]


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
