"""Decides when the next evaluation of a cluster is due: after a sync, not while its jobs still end."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from qupersync_assets.health.evaluation import why_not
from qupersync_assets.health.options import HealthOptions
from qupersync_assets.postgres.health_tables import HEALTH_EVALUATIONS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.postgres.sync_logs import IS_RUNNING, SYNC_LOGS

# A job starts shortly after the one before; one that takes longer, or hangs, does not delay the findings of others.
PAUSE, PATIENCE = timedelta(seconds=10), timedelta(seconds=60)


class Due(NamedTuple):
    """Whether an evaluation is due: `since` is the end of the last job then, else None and the `reason`."""

    since: datetime | None
    reason: str = ""


def find_due(postgres: PostgresResource, cluster: str, options: HealthOptions, *, always: bool = False) -> Due:
    """Return whether an evaluation of a cluster is due; with `always`, also if nothing changed since the last one.

    Raises:
        SyncError: PostgreSQL cannot be reached, or its schema cannot be migrated.
    """
    ensure_schema(postgres)  # this may be the first use of the target
    log, evaluations = SYNC_LOGS.c, HEALTH_EVALUATIONS.c
    with postgres.transaction() as connection:
        now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        # A load takes less than a day; started_at has an index.
        lately = (log.cluster == cluster) & (log.started_at >= now - timedelta(days=1))
        last_end, is_running = connection.execute(
            sa.select(sa.func.max(log.completed_at), sa.func.bool_or(IS_RUNNING)).where(lately)
        ).one()
        evaluated_at = connection.scalar(sa.select(evaluations.evaluated_at).where(evaluations.cluster == cluster))
        is_known = evaluated_at is not None and not always
        if last_end is None or (is_known and last_end <= evaluated_at):
            return Due(None, "No job has ended since the last evaluation.")
        if last_end > now - (PATIENCE if is_running else PAUSE):
            return Due(None, "A sync runs, or has just ended.")
        if is_known and (reason := why_not(connection, cluster, options, now)):
            return Due(None, reason)
    return Due(last_end)
