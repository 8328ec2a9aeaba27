"""Rows of a history that may still change in Redshift, such as queries that have not ended: they are read by key until
they have ended, or until Redshift no longer lists them."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from qupersync_assets.spec import RETENTION, UNKNOWN, SyncSpec

# The daily full read covers those beyond this number.
MAX_MUTABLE_KEYS = 1000


def mutable_keys(connection: sa.Connection, spec: SyncSpec, cluster: str) -> Sequence[int]:
    """Return the keys of rows that may still change in Redshift, newest first."""
    if spec.mutable_where is None or spec.time_column is None:
        return ()
    time, (key,) = spec.table.c[spec.time_column], spec.source_key
    statement = (
        sa.select(key)
        # Rows without a time are read in any case.
        .where(spec.table.c.cluster == cluster, time.is_not(None), sa.text(spec.mutable_where))
        .order_by(time.desc())
        .limit(MAX_MUTABLE_KEYS)
    )
    return connection.scalars(statement).all()


def mark_unlisted(
    connection: sa.Connection, spec: SyncSpec, cluster: str, read: Collection[int], unlisted: Collection[int]
) -> None:
    """Give the status UNKNOWN to the rows `unlisted`, which the source no longer has; and to rows that are too old for
    a full read and were not among those `read` by key."""
    if spec.mutable_where is None or spec.time_column is None:
        return
    time, (key,) = spec.table.c[spec.time_column], spec.source_key
    is_lost = key.in_(unlisted) | (time < sa.func.now() - RETENTION) & key.not_in(read)
    rows = sa.update(spec.table).where(spec.table.c.cluster == cluster, sa.text(spec.mutable_where), is_lost)
    connection.execute(rows.values(status=UNKNOWN, synced_at=sa.func.now()))
