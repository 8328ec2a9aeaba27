"""Generates activity in the warehouse: seven days of history, then new activity at each call."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg2 import sql

from qupersync_assets.sandbox.warehouse import catalog
from qupersync_assets.sandbox.warehouse.rows import Row, copy_rows, last_ids
from qupersync_assets.sandbox.workload.activity import Activity
from qupersync_assets.sandbox.workload.generated import fill_empty_views
from qupersync_assets.sandbox.workload.problems import SLOWER
from qupersync_assets.sandbox.workload.traffic import CLIENTS

RETENTION = timedelta(days=7)
LOCK = 7_265_001  # advisory lock: one workload writes at a time, so that ids are unique

# Conditions on rows that are older than the retention of their view.
_EXPIRED = {
    "stl_vacuum": "eventtime < %(limit)s",
    "sys_vacuum_history": "record_time < %(limit)s",
    "sys_query_history": "start_time < %(limit)s",
    "sys_query_detail": "start_time < %(limit)s",
    "stl_alert_event_log": "event_time < %(limit)s",
    # Steps that never ran are dated 2000-01-01; they expire with the other steps of their query.
    "stl_scan": "endtime < %(limit)s AND endtime > '2000-01-01' "
    "OR query < (SELECT min(query) FROM redshift.stl_scan WHERE endtime >= %(limit)s)",
    "sys_connection_log": "record_time < %(limit)s",
    **dict.fromkeys(
        (
            *("sys_load_history", "sys_load_detail", "sys_load_error_detail", "sys_analyze_history"),
            *("sys_mv_refresh_history", "sys_mv_state", "sys_serverless_usage"),
        ),
        "start_time < %(limit)s",
    ),
    **dict.fromkeys(("stl_load_errors", "stl_analyze"), "starttime < %(limit)s"),
    "sys_auto_table_optimization": "event_time < %(limit)s",
    "stl_query": "endtime < %(limit)s",
    # It has no time.
    "svl_query_metrics_summary": "query < (SELECT min(query) FROM redshift.stl_query)",
}

# Statements that only problems have.
_MARK = f"%{SLOWER}%"

_BULK = """
INSERT INTO redshift.sys_query_history (
    user_id, query_id, query_label, transaction_id, session_id, database_name, query_type, status,
    result_cache_hit, start_time, end_time, elapsed_time, queue_time, execution_time, error_message,
    returned_rows, returned_bytes, query_text, redshift_version, compute_type, compile_time, planning_time,
    lock_wait_time, service_class_id, service_class_name, query_priority, user_query_hash, generic_query_hash,
    query_hash_version, result_cache_query_id, username)
SELECT 100 + g %% 8, %(query_id)s + g, CASE g %% 3 WHEN 0 THEN 'default' END, %(xid)s + g, 20000 + g %% 500,
    current_database(), (ARRAY['SELECT', 'INSERT', 'COPY', 'UPDATE', 'UNLOAD'])[1 + g %% 5],
    CASE WHEN g %% 40 = 0 THEN 'failed' WHEN g %% 97 = 0 THEN 'canceled' ELSE 'success' END,
    g %% 11 = 0, began, began + elapsed * interval '1 microsecond', elapsed, elapsed / 10,
    elapsed - elapsed / 10 - elapsed / 20, CASE WHEN g %% 40 = 0 THEN 'Division by zero' END,
    g %% 5000, g %% 5000 * 120,
    format(E'SELECT day, sum(amount)\\\\nFROM sales.orders\\\\nWHERE id = %%s AND status = ''płatność %%s''',
           g, g %% 7),
    'Redshift 1.0.73659', 'primary', elapsed / 20, 900, 0, 100, 'Default queue', 'normal',
    encode(substring(sha256(g::text::bytea) FOR 8), 'base64'), 'mLZ0nIQT8pk=', 1, 0, (%(users)s)[1 + g %% 8]
FROM (
    SELECT g, %(now)s - interval '7 days' + g * interval '10079 minutes' / %(count)s AS began,
        (1000 * power(10::float8, (g * 7919 %% 1000) / 250.0))::bigint AS elapsed
    FROM generate_series(1::bigint, %(count)s) g) AS queries
"""


class Workload:
    """Writes synthetic activity into the warehouse; each call is one transaction.

    The written rows depend only on the seed, the time of the call and the existing rows. A new object
    therefore continues the work of another. Times without a zone are UTC.

    Args:
        connect: opens a psycopg2 connection to the warehouse, as superuser.
        seed: seed of the random numbers.
    """

    def __init__(self, connect: Callable[[], Any], seed: int = 7) -> None:
        self._connect = connect
        self._seed = seed

    def backfill(self, now: datetime, days: int = 7, queries: int = 3000) -> None:
        """Fill an empty warehouse with user tables and `days` of history up to `now`."""
        now, rng = self._start(now, "backfill")
        with self._transaction() as cursor:
            cursor.execute("SELECT current_database(), EXISTS (SELECT FROM redshift.svv_table_info)")
            database, filled = cursor.fetchone()
            if filled:
                return
            tables = [catalog.table_info(rng, table, database, now) for table in catalog.sample_tables()]
            used = sum(table["size"] for table in tables) // catalog.NODES
            nodes: list[Row] = [
                {"node": node, "used": used + 1000 * node, "capacity": catalog.NODE_CAPACITY}
                for node in range(catalog.NODES)
            ]
            copy_rows(cursor, {"svv_table_info": tables, "stv_node_storage_capacity": nodes})
            copy_rows(cursor, catalog.catalog_rows(database))
            Activity(cursor, rng, now).history(timedelta(days=days), queries)

    def add_problems(self, now: datetime) -> None:
        """Add a problem of every kind to a warehouse that has been filled, once; see problems."""
        now, rng = self._start(now, "problems")
        with self._transaction() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM redshift.sys_query_history WHERE query_text LIKE %s)", [_MARK])
            if not cursor.fetchone()[0]:
                Activity(cursor, rng, now).add_problems()

    def fill_other_views(self, now: datetime) -> list[str]:
        """Give rows to the documented views that are still empty, and return their names; see generated."""
        now, _ = self._start(now, "other views")
        with self._transaction() as cursor:
            return fill_empty_views(cursor, now)

    def advance(self, now: datetime) -> None:
        """Add activity since the last call, finish running statements, and delete expired rows."""
        now, rng = self._start(now, "advance")
        with self._transaction() as cursor:
            Activity(cursor, rng, now).advance()
            for view, condition in _EXPIRED.items():
                statement = sql.SQL("DELETE FROM redshift.{} WHERE {}")
                cursor.execute(statement.format(sql.Identifier(view), sql.SQL(condition)), {"limit": now - RETENTION})

    def bulk_queries(self, count: int, now: datetime) -> None:
        """Add `count` finished queries to sys_query_history, evenly over the seven days before `now`."""
        now, _ = self._start(now, "bulk")
        with self._transaction() as cursor:
            users = [client.user_name for client in CLIENTS if client.user_id > 1]
            cursor.execute(_BULK, {**last_ids(cursor), "now": now, "count": count, "users": users})

    def _start(self, now: datetime, call: str) -> tuple[datetime, random.Random]:
        utc = now.astimezone(UTC).replace(tzinfo=None) if now.tzinfo else now
        return utc, random.Random(f"{self._seed} {call} {utc.isoformat()}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        with contextlib.closing(self._connect()) as connection, connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            yield cursor
