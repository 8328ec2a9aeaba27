"""Writes what signals found to quper.health_findings; unchanged rows are not rewritten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from qupersync_assets.health.options import HealthOptions
from qupersync_assets.health.signal import COLUMNS, Signal

CREATE_FOUND = f"""
CREATE TEMPORARY TABLE health_found (
    signal_id text COLLATE "C", severity text, {", ".join(f"{name} {type_}" for name, type_ in COLUMNS.items())}
) ON COMMIT DROP"""

# A difference in these makes a new version of the row. Numbers that change all the time count from a tenth on.
_EXACT = ("severity", "target", "note", "database", "table_id", "query_id", "pattern")
_DIFFERS = (
    f"(f.value_now, {', '.join(f'f.{name}' for name in _EXACT)}) "
    f"IS DISTINCT FROM (n.value, {', '.join(f'n.{name}' for name in _EXACT)})"
)
_MOVED = " OR ".join(
    f"abs(coalesce(n.{name}, 0) - coalesce(f.{name}, 0)) > 0.1 * coalesce(f.{name}, 0)" for name in ("size_mb", "times")
)
_COPIED = ("severity", *(name for name in COLUMNS if name not in ("object", "value")))

# One pass over all findings; most differ in nothing.
_COMPARE = f"""
CREATE TEMPORARY TABLE health_changes ON COMMIT DROP AS
SELECT coalesce(n.signal_id, f.signal_id) AS signal_id, coalesce(n.object, f.object) AS object, n.value,
    {", ".join(f"n.{name}" for name in _COPIED)},
    CASE WHEN f.object IS NULL THEN 'new' WHEN n.object IS NULL THEN 'resolved'
        WHEN f.resolved_at IS NOT NULL THEN 'returned' ELSE 'changed' END AS change
FROM health_found AS n
FULL JOIN (SELECT * FROM quper.health_findings WHERE cluster = :cluster) AS f
    ON f.signal_id = n.signal_id AND f.object = n.object
WHERE f.object IS NULL OR n.object IS NULL AND f.resolved_at IS NULL AND NOT f.signal_id = ANY (:kept)
    OR n.object IS NOT NULL AND (f.resolved_at IS NOT NULL OR {_DIFFERS} OR {_MOVED})"""

_CHANGE = f"""
UPDATE quper.health_findings AS f SET {", ".join(f"{name} = n.{name}" for name in _COPIED)}, value_now = n.value,
    value_first = CASE n.change WHEN 'returned' THEN n.value ELSE f.value_first END,
    opened_at = CASE n.change WHEN 'returned' THEN :now ELSE f.opened_at END,
    episodes = f.episodes + CASE n.change WHEN 'returned' THEN 1 ELSE 0 END,
    last_seen = NULL, resolved_at = NULL, changed_at = :now
FROM health_changes AS n
WHERE n.change IN ('changed', 'returned')
    AND f.cluster = :cluster AND f.signal_id = n.signal_id AND f.object = n.object"""

_ADD = f"""
INSERT INTO quper.health_findings
    (cluster, signal_id, object, value_first, value_now, first_seen, opened_at, changed_at, {", ".join(_COPIED)})
SELECT :cluster, signal_id, object, value, value, :now, :now, :now, {", ".join(_COPIED)}
FROM health_changes WHERE change = 'new'"""

_RESOLVE = """
UPDATE quper.health_findings AS f
SET resolved_at = :now, changed_at = :now, last_seen = greatest(f.opened_at, coalesce(
    (SELECT last_evaluated_at FROM quper.health_signals AS s WHERE s.cluster = :cluster AND s.signal_id = f.signal_id),
    (SELECT evaluated_at FROM quper.health_evaluations AS e WHERE e.cluster = :cluster)
))
FROM health_changes AS n
WHERE n.change = 'resolved' AND f.cluster = :cluster AND f.signal_id = n.signal_id AND f.object = n.object"""

# Two objects of one name, such as a table that is being replaced, are one finding: the worst.
_FIND = """
INSERT INTO health_found SELECT DISTINCT ON (object) :signal_id, :severity, found.* FROM ({sql}) AS found
WHERE object IS NOT NULL ORDER BY object, value DESC NULLS LAST"""


def find(connection: sa.Connection, cluster: str, signal: Signal, options: HealthOptions, hour: datetime) -> None:
    """Add what a signal finds to the temporary table."""
    parameters = {
        "signal_id": signal.id,
        "severity": signal.severity,
        "cluster": cluster,
        "now": hour,
        "threshold": options.threshold(signal.id),
        "large_rows": options.large_rows,
    }
    connection.execute(sa.text(_FIND.format(sql=signal.sql)), parameters)


def write_found(connection: sa.Connection, cluster: str, now: datetime, kept: Sequence[str]) -> tuple[int, int]:
    """Write what was found; return the numbers of findings that are new or returned, and of those that were resolved.
    Findings of the signals `kept` are not resolved."""
    parameters = {"cluster": cluster, "now": now, "kept": list(kept)}
    for statement in ("ANALYZE health_found (signal_id, object)", _COMPARE, "ANALYZE health_changes (change)"):
        connection.execute(sa.text(statement), parameters)
    counted = connection.execute(sa.text("SELECT change, count(*) AS number FROM health_changes GROUP BY change"))
    changes: dict[str, int] = {row.change: row.number for row in counted}
    for statement, kinds in ((_CHANGE, ("changed", "returned")), (_ADD, ("new",)), (_RESOLVE, ("resolved",))):
        if changes.keys() & kinds:
            connection.execute(sa.text(statement), parameters)
    return changes.get("new", 0) + changes.get("returned", 0), changes.get("resolved", 0)
