"""Lists the clusters that have rows in the schema quper, and renames or forgets one.

The tables are found in the database: each one with a column `cluster` takes part, also those of later versions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product

import sqlalchemy as sa

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.core.sql import quote_identifier
from qupersync_assets.postgres.advisory_lock import lock_key
from qupersync_assets.postgres.cluster_connections import CLUSTER_CONNECTIONS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.sync_logs import SYNC_LOGS
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.postgres.sync_totals import SYNC_TOTALS
from qupersync_assets.spec import SCHEMA, SyncSpec

# Name, total size with indexes and partitions in bytes, and whether there is a column synced_at.
_TABLES = sa.text(
    f"""
    SELECT c.relname, CASE c.relkind WHEN 'r' THEN pg_total_relation_size(c.oid)
            ELSE (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(c.oid))::bigint END,
        EXISTS (SELECT FROM pg_attribute w WHERE w.attrelid = c.oid AND w.attname = 'synced_at' AND NOT w.attisdropped)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = to_regnamespace('{SCHEMA}') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND a.attname = 'cluster' AND NOT a.attisdropped
    ORDER BY c.relname
    """
)
# One row of these would be there twice; that of the new name is the newer one.
_STATES = (CLUSTER_CONNECTIONS.name, SYNC_TOTALS.name)
_LOCK = sa.text("SELECT pg_try_advisory_xact_lock(:key)")


@dataclass
class StoredCluster:
    """What the tables hold of a cluster."""

    name: str
    rows: dict[str, int] = field(default_factory=dict)  # by table, without those that have none
    size: int = 0  # bytes, as its share of the rows of each table
    newest_row_at: datetime | None = None  # when the newest version of a row was written
    last_success_at: datetime | None = None  # end of the last successful load


def cluster_tables(connection: sa.Connection) -> list[str]:
    """Return the tables that have rows of clusters."""
    return [row[0] for row in connection.execute(_TABLES)]


def cluster_names(postgres: PostgresResource) -> list[str]:
    """Return the names of the clusters that have a row in any table; an index finds them, however many rows there are.

    Raises:
        SyncError: PostgreSQL cannot be reached.
    """
    with postgres.transaction() as connection:
        tables = cluster_tables(connection)
        names = [name for table in tables for name in connection.scalars(_names(table))]
    return sorted(set(names))


def stored_clusters(postgres: PostgresResource) -> list[StoredCluster]:
    """Return what the tables hold of each cluster; this reads all rows.

    Raises:
        SyncError: PostgreSQL cannot be reached.
    """
    found: dict[str, StoredCluster] = {}
    with postgres.transaction() as connection:
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        for table, size, has_time in connection.execute(_TABLES).all():
            newest = "max(synced_at)" if has_time else "NULL::timestamptz"
            counted = connection.execute(
                sa.text(f"SELECT cluster, count(*), {newest} FROM {_full(table)} GROUP BY cluster")
            ).all()
            total = sum(rows for _, rows, _ in counted)
            for name, rows, written in counted:
                cluster = found.setdefault(name, StoredCluster(name))
                cluster.rows[table] = rows
                cluster.size += size * rows // total
                cluster.newest_row_at = max(filter(None, (cluster.newest_row_at, written)), default=None)
        if found:
            is_success = SYNC_LOGS.c.status == SyncStatus.SUCCESS
            ends = sa.select(SYNC_LOGS.c.cluster, sa.func.max(SYNC_LOGS.c.completed_at)).where(is_success)
            for name, ended in connection.execute(ends.group_by(SYNC_LOGS.c.cluster)):
                found[name].last_success_at = ended
    return [found[name] for name in sorted(found)]


def rename_cluster(
    postgres: PostgresResource, specs: Sequence[SyncSpec], old: str, new: str, *, dry_run: bool
) -> dict[str, int]:
    """Rename a cluster in all tables, in one transaction, or only count its rows; return their number by table.

    Where the new name has a login or totals of runs already, those of the old name are deleted.

    Raises:
        SyncError: there are no rows of `old`, rows of `new` already, or a job of one of them is being loaded; or
            PostgreSQL cannot be reached.
    """
    with _locked(postgres, specs, (old, new)) as connection:
        rows, rows_of_new = _rows(connection, old), _rows(connection, new)
        # The log has no key that could be there twice, and a sync that failed under the new name left no other rows.
        if known := [table for table in rows_of_new if table not in (SYNC_LOGS.name, *_STATES)]:
            raise SyncError(
                f"Cluster {new} already has rows, in {', '.join(known)}, and one key cannot have two rows. If these "
                f"rows are of the same cluster, read after it got its new name: run `qupersync clusters forget {new}`, "
                f"then rename {old}. The next sync reads again what Redshift still has.",
                ErrorClass.FATAL,
            )
        for table in rows if not dry_run else ():
            statement = f"UPDATE {_full(table)} SET cluster = :new WHERE cluster = :old"
            if table in _STATES and table in rows_of_new:
                statement = f"DELETE FROM {_full(table)} WHERE cluster = :old"
            connection.execute(sa.text(statement), {"old": old, "new": new})
    return rows


def forget_cluster(
    postgres: PostgresResource, specs: Sequence[SyncSpec], name: str, *, dry_run: bool
) -> dict[str, int]:
    """Delete all rows of a cluster, in one transaction, or only count them; return their number by table.

    Raises:
        SyncError: there are none, or one of its jobs is being loaded; or PostgreSQL cannot be reached.
    """
    with _locked(postgres, specs, (name,)) as connection:
        rows = _rows(connection, name)
        for table in rows if not dry_run else ():
            connection.execute(sa.text(f"DELETE FROM {_full(table)} WHERE cluster = :name"), {"name": name})
    return rows


@contextmanager
def _locked(postgres: PostgresResource, specs: Sequence[SyncSpec], clusters: Sequence[str]) -> Iterator[sa.Connection]:
    """Begin a transaction in which no job of the clusters is loaded; the first cluster must have rows."""
    with postgres.transaction() as connection:
        for cluster, spec in product(clusters, specs):
            if not connection.scalar(_LOCK, {"key": lock_key(cluster, spec.sync_job_id)}):
                text = f"{spec.sync_job_id} of cluster {cluster} is being loaded: try again when that has ended."
                raise SyncError(text, ErrorClass.FATAL)
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        if not _rows(connection, clusters[0]):
            tables = cluster_tables(connection)
            known = sorted({name for table in tables for name in connection.scalars(_names(table))})
            text = f"There are no rows of a cluster {clusters[0]}. Clusters with rows: {', '.join(known) or 'none'}."
            raise SyncError(text, ErrorClass.FATAL)
        yield connection


def _rows(connection: sa.Connection, cluster: str) -> dict[str, int]:
    """Return the number of rows of a cluster in each table that has any."""
    counted = {
        table: connection.scalar(
            sa.text(f"SELECT count(*) FROM {_full(table)} WHERE cluster = :name"), {"name": cluster}
        )
        for table in cluster_tables(connection)
    }
    return {table: rows for table, rows in counted.items() if rows}


def _names(table: str) -> sa.TextClause:
    """Return the statement for the clusters of a table, which looks up one after the other in its index.

    https://wiki.postgresql.org/wiki/Loose_indexscan
    """
    name = _full(table)
    return sa.text(
        f"""
        WITH RECURSIVE found AS (
            (SELECT cluster FROM {name} ORDER BY cluster LIMIT 1)
            UNION ALL
            SELECT (SELECT cluster FROM {name} WHERE cluster > found.cluster ORDER BY cluster LIMIT 1)
            FROM found WHERE found.cluster IS NOT NULL
        )
        SELECT cluster FROM found WHERE cluster IS NOT NULL
        """
    )


def _full(table: str) -> str:
    return f"{SCHEMA}.{quote_identifier(table)}"
