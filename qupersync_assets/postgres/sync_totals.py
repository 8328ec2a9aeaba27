"""quper.sync_totals: sums over the ended runs of each job, which neither a restart nor a purge of old runs lowers.

A row of quper.sync_logs is added in the statement that closes it. If another attempt opens a closed row again, it
counts twice.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert, insert

from qupersync_assets.rows.row_counts import RowCounts
from qupersync_assets.spec import CLUSTER_COMMENT, METADATA

# Upper limits of durations (seconds), for a histogram.
BUCKETS = (1, 5, 15, 60, 300, 900, 3600)
_LOG_COLUMNS = ("rows_upserted", *RowCounts().columns(), "duration_ms")
_CLOSED = ("cluster", "sync_job_id", "status", *_LOG_COLUMNS)


def bucket_column(seconds: int) -> str:
    """Return the column with the number of runs that took at most so long."""
    return f"runs_within_{seconds}s"


def _total(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0", comment=comment)


SYNC_TOTALS = sa.Table(
    "sync_totals",
    METADATA,
    sa.Column("cluster", sa.Text, primary_key=True, comment=CLUSTER_COMMENT),
    sa.Column("sync_job_id", sa.Text, primary_key=True, comment="the job"),
    sa.Column("status", sa.Text, primary_key=True, comment="how the runs ended"),
    _total("runs", "number of runs"),
    *(_total(name, f"sum of {name} in quper.sync_logs") for name in _LOG_COLUMNS),
    *(_total(bucket_column(seconds), f"runs that took {seconds} s at most") for seconds in BUCKETS),
    comment="Sums over the ended runs of each job, by status, since the table was created; for counters of metrics.",
)


def _add_closed() -> Insert:
    """Return the statement that adds the rows of the CTE `closed` to the totals."""
    closed = sa.table("closed", *(sa.column(name) for name in _CLOSED))
    key = [closed.c.cluster, closed.c.sync_job_id, closed.c.status]
    within = [sa.func.count().filter(closed.c.duration_ms <= 1000 * seconds) for seconds in BUCKETS]
    sums = [sa.cast(sa.func.coalesce(sa.func.sum(closed.c[name]), 0), sa.BigInteger) for name in _LOG_COLUMNS]
    # Sorted, so that two processes that close several rows wait for each other in one order.
    rows = sa.select(*key, sa.func.count(), *sums, *within).group_by(*key).order_by(*key)
    new = insert(SYNC_TOTALS).from_select([column.name for column in SYNC_TOTALS.c], rows)
    summed = {c.name: SYNC_TOTALS.c[c.name] + new.excluded[c.name] for c in SYNC_TOTALS.c if not c.primary_key}
    return new.on_conflict_do_update(constraint=SYNC_TOTALS.primary_key, set_=summed)


# Each load needs it twice, and building it would take more time than executing it.
_ADD_CLOSED = _add_closed()


def close_and_add(connection: sa.Connection, close: sa.Insert | sa.Update, log: sa.Table) -> int:
    """Execute a statement that closes rows of quper.sync_logs, and add them to the totals of their jobs; return the
    number of jobs and statuses that they had."""
    closed = close.returning(*(log.c[name] for name in _CLOSED)).cte("closed")
    return connection.execute(_ADD_CLOSED.add_cte(closed)).rowcount
