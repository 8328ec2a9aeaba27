"""Effects of statements besides their reads: alerts of the planner, spill and inserted rows."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Alert:
    """An alert of the planner, and the step that raises it: the scan of a table, or a later step without a table."""

    step_name: str
    event: str
    solution: str


ALERTS = [
    Alert("scan", "Missing query planner statistics", "Run the ANALYZE command"),
    Alert(
        "scan",
        "Very selective query filter:ratio=rows({few})/rows_pre_user_filter({many})=0.0{few}",
        "Review the choice of sort key to enable range restricted scanning, or run the VACUUM command",
    ),
    Alert(
        "scan", "Scanned a large number of deleted rows:{many} rows", "Run the VACUUM command to reclaim deleted space"
    ),
    Alert("nestloop", "Nested Loop Join in the query plan", "Review the join predicates to avoid Cartesian products"),
    Alert(
        "distribute",
        "Distributed a large number of rows across the network:{many} rows",
        "Review the choice of distribution key to collocate the join or aggregation",
    ),
    Alert(
        "broadcast",
        "Broadcasted a large number of rows across the network:{many} rows",
        "Review the choice of distribution key to collocate the join",
    ),
    Alert(
        "hashjoin",
        "DS_DIST_ALL_INNER for Hash Join in the query plan",
        "Review the distribution style of the inner table",
    ),
]


@dataclass(frozen=True)
class Effects:
    """What a statement does, instead of at random.

    Attributes:
        alert: the beginning of the alert that its first table raises; none by default.
        spilled_mb: MB that its last step spills.
        inserted: rows that it inserts from its own text, without a scan.
    """

    alert: str = ""
    spilled_mb: int = 0
    inserted: int = 0


def choose_alert(rng: random.Random, segment: int, effects: Effects | None) -> Alert | None:
    """Return the alert of the scan in `segment`: that of `effects` in the first one, else one at random or none."""
    if effects is None:
        return rng.choice(ALERTS) if rng.random() < 0.15 else None
    named = "" if segment else effects.alert
    return next((alert for alert in ALERTS if named and alert.event.startswith(named)), None)
