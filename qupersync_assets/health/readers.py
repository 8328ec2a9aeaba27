"""Reads findings for people: the worst first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from qupersync_assets.postgres.health_tables import HEALTH_EVALUATIONS, HEALTH_SIGNALS

# The findings to fix first.
_ORDER = "severity_rank, priority DESC, since, signal_id, object"


def open_findings(
    connection: sa.Connection,
    clusters: Sequence[str],
    *,
    groups: Collection[str] = (),
    severities: Collection[str] = (),
    since: datetime | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Return open findings of quper.health_open, the worst first; an empty filter selects all."""
    where = ["cluster = ANY (:clusters)"]
    where += ["group_id = ANY (:groups)"] if groups else []
    where += ["severity = ANY (:severities)"] if severities else []
    where += ["since >= :since"] if since else []
    statement = f"SELECT * FROM quper.health_open WHERE {' AND '.join(where)} ORDER BY {_ORDER} LIMIT :limit"
    parameters = {
        "clusters": list(clusters),
        "groups": list(groups),
        "severities": list(severities),
        "since": since,
        "limit": limit,
    }
    return [dict(row) for row in connection.execute(sa.text(statement), parameters).mappings()]


def worst_of_groups(connection: sa.Connection, cluster: str, count: int) -> dict[str, list[dict[str, Any]]]:
    """Return the worst open findings of each group of a cluster."""
    statement = f"""
SELECT * FROM (
    SELECT *, row_number() OVER (PARTITION BY group_id ORDER BY {_ORDER}) AS place
    FROM quper.health_open WHERE cluster = :cluster
) AS ranked WHERE place <= :count ORDER BY group_id, place"""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(sa.text(statement), {"cluster": cluster, "count": count}).mappings():
        found.setdefault(row["group_id"], []).append(dict(row))
    return found


def summaries(connection: sa.Connection, clusters: Sequence[str]) -> list[dict[str, Any]]:
    """Return the numbers of open findings by cluster and group, in the order of the signals."""
    statement = "SELECT * FROM quper.health_summary WHERE cluster = ANY (:clusters) ORDER BY cluster, position"
    return [dict(row) for row in connection.execute(sa.text(statement), {"clusters": list(clusters)}).mappings()]


def left_out(connection: sa.Connection, clusters: Sequence[str]) -> list[dict[str, Any]]:
    """Return the signals that the last evaluation left out, and why."""
    signals = HEALTH_SIGNALS.c
    statement = (
        sa.select(signals.cluster, signals.group_id, signals.signal_id, signals.status, signals.reason)
        .where(signals.cluster.in_(clusters), signals.status != "evaluated")
        .order_by(signals.cluster, signals.position)
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


def evaluated_at(connection: sa.Connection, clusters: Sequence[str]) -> dict[str, datetime]:
    """Return the time of the last evaluation of each cluster that was evaluated."""
    rows = HEALTH_EVALUATIONS.c
    found = connection.execute(sa.select(rows.cluster, rows.evaluated_at).where(rows.cluster.in_(clusters)))
    return {row.cluster: row.evaluated_at for row in found}
