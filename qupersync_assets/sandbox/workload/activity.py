"""Writes the activity of one period into the warehouse, in one transaction."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from psycopg2 import sql

from qupersync_assets.sandbox.warehouse import catalog
from qupersync_assets.sandbox.warehouse.catalog import LiveTable
from qupersync_assets.sandbox.warehouse.rows import Row, copy_rows, fetch_dicts, last_ids
from qupersync_assets.sandbox.workload import problems, traffic, vacuums
from qupersync_assets.sandbox.workload.effects import Effects
from qupersync_assets.sandbox.workload.loads import load_rows
from qupersync_assets.sandbox.workload.steps import step_rows
from qupersync_assets.sandbox.workload.upkeep import Upkeep

_GROW = """
UPDATE redshift.svv_table_info SET
    tbl_rows = tbl_rows + %(written)s,
    estimated_visible_rows = estimated_visible_rows + %(kept)s,
    size = size + %(blocks)s,
    pct_used = pct_used + %(percent)s,
    unsorted = unsorted + least(%(aged)s, 100 - unsorted),
    stats_off = CASE WHEN stats_off > 60 THEN 0 ELSE stats_off + %(aged)s END
WHERE table_id = %(id)s
"""

_SHRINK = """
UPDATE redshift.svv_table_info SET
    tbl_rows = estimated_visible_rows, unsorted = 0 * unsorted, vacuum_sort_benefit = 0 * vacuum_sort_benefit
WHERE table_id = %s
"""

_RECREATE = """
UPDATE redshift.pg_class SET oid = %(new)s WHERE oid = %(old)s;
UPDATE redshift.pg_attribute SET attrelid = %(new)s WHERE attrelid = %(old)s;
UPDATE redshift.svv_table_info SET table_id = %(new)s, create_time = %(now)s WHERE table_id = %(old)s
"""


class Activity:
    """Adds activity to the warehouse of `cursor`, up to `now` (UTC, without a zone)."""

    def __init__(self, cursor: Any, rng: random.Random, now: datetime) -> None:
        self._cursor = cursor
        self._rng = rng
        self._now = now
        self._rows: dict[str, list[Row]] = defaultdict(list)
        cursor.execute("SELECT current_database()")
        self._database: str = cursor.fetchone()[0]
        cursor.execute('SELECT table_id, "schema", "table", tbl_rows::bigint FROM redshift.svv_table_info ORDER BY 1')
        self._tables = [LiveTable(*values) for values in cursor.fetchall()]
        self._used = [table for table in self._tables if table.schema != problems.UNUSED_SCHEMA]
        self._ids = last_ids(cursor)
        # With random numbers of its own, so that it does not change the others.
        upkeep_rng = random.Random(rng.getstate()[1][0])
        self._upkeep = Upkeep(upkeep_rng, now, self._database, self._tables)
        self._sessions: list[tuple[traffic.Client, int]] = []
        self._busy_until: dict[int, datetime] = {}  # a session runs one statement at a time

    def history(self, length: timedelta, queries: int) -> None:
        """Write `queries` statements, and vacuums, of the time `length` before now."""
        rng, begin = self._rng, self._now - length
        self._run_statements(sorted(begin + rng.random() * length for _ in range(queries)))
        for table in self._tables:
            start = begin + rng.random() * timedelta(days=1)
            while start < self._now:
                end = start + timedelta(seconds=rng.lognormvariate(4, 1.5))
                aborted = rng.random() < 0.03 or end > self._now
                self._vacuum(table, start, None if aborted else end)
                start += timedelta(hours=rng.uniform(12, 48))
        self._upkeep.history(length)
        self._write()

    def advance(self) -> None:
        """Write activity since the newest statement, ten minutes at most, and finish running statements."""
        self._cursor.execute("SELECT max(start_time) FROM redshift.sys_query_history")
        (newest,) = self._cursor.fetchone()
        earliest, latest = self._now - timedelta(minutes=10), self._now - timedelta(seconds=1)
        since = min(max(newest or earliest, earliest), latest)
        self._continue_statements()
        count = self._rng.randint(4, 12)
        self._run_statements(sorted(since + self._rng.random() * (self._now - since) for _ in range(count)))
        self._continue_vacuums()
        # The problems of the others stay.
        healthy = [table for table in self._tables if table.qualified not in problems.TABLES]
        if healthy and self._rng.random() < 0.4:
            self._vacuum(self._rng.choice(healthy), self._now, None)
        self._change_tables()
        self._cursor.execute(
            "UPDATE redshift.stv_node_storage_capacity SET used = greatest(0, least(capacity, used + %s))",
            [self._rng.randint(-9, 10)],
        )
        self._upkeep.advance(self._cursor)
        self._write()

    def add_problems(self) -> None:
        """Write what is wrong with the warehouse, in addition to its history; see problems."""
        problems.change_catalog(self._cursor, self._now)
        for scene in problems.SCENES:
            client = next(client for client in traffic.CLIENTS if client.user_name == scene.user)
            name = catalog.qualified_name(*scene.table.split(".", 1))  # the table may be empty now
            pattern, starts = (scene.kind, scene.text), scene.starts(self._now)
            session = self._connect(starts[0], client)
            for start in starts:
                statement = traffic.new_statement(self._rng, client, self._database, pattern, (name, ""), start)
                self._number(statement, session)
                end = start + timedelta(seconds=scene.seconds * self._rng.uniform(0.8, 1.2))
                traffic.finish(self._rng, statement, end, "success", scene.queued)
                statement |= scene.columns
                self._record_end(statement, scene.effects)
                self._rows["sys_query_history"].append(statement)
        (table,) = (table for table in self._tables if table.qualified == problems.UNVACUUMED)
        for view, time in (("stl_vacuum", "eventtime"), ("sys_vacuum_history", "start_time")):
            deletion = sql.SQL("DELETE FROM redshift.{} WHERE table_id = %s AND {} > %s")
            deletion = deletion.format(sql.Identifier(view), sql.Identifier(time))
            self._cursor.execute(deletion, [table.table_id, self._now - timedelta(days=6)])
        for day in range(1, 6):
            self._vacuum(table, self._now - timedelta(days=day), None, "Failed")
        self._write()

    def _write(self) -> None:
        copy_rows(self._cursor, self._rows)
        copy_rows(self._cursor, self._upkeep.rows)

    def _run_statements(self, starts: list[datetime]) -> None:
        if len(self._used) < 2:
            return
        rng = self._rng
        previous = None
        for start in starts:
            idle = [s for s in self._sessions if self._busy_until.get(s[1], start) <= start]
            if not idle or rng.random() < 0.15:
                self._connect(start)
                idle = self._sessions[-1:]
            client, session = rng.choice(idle)
            statement = traffic.new_query(rng, client, self._database, self._used, start)
            # Else it is in the transaction of the last one.
            self._number(statement, session, session != previous or rng.random() < 0.7)
            previous = session
            end = start + timedelta(seconds=min(rng.lognormvariate(-1, 2.5), 3000))
            if end > self._now or (start > self._now - timedelta(seconds=20) and rng.random() < 0.4):
                traffic.update_running(rng, statement, self._now)
                self._load(statement)
                end = datetime.max
            else:
                self._finish(statement, end)
            self._busy_until[session] = end
            self._rows["sys_query_history"].append(statement)

    def _number(self, statement: Row, session: int, is_new_transaction: bool = True) -> None:
        ids = self._ids
        ids["query_id"] += self._rng.randint(1, 5)
        ids["xid"] += self._rng.randint(1, 3) if is_new_transaction else 0
        statement |= {"query_id": ids["query_id"], "transaction_id": ids["xid"], "session_id": session}

    def _connect(self, at: datetime, client: traffic.Client | None = None) -> int:
        """Write the log of a new session, of a client at random by default; return its number."""
        rng = self._rng
        client = client or rng.choice(traffic.CLIENTS)
        self._ids["session"] += rng.randint(1, 9)
        self._sessions.append((client, self._ids["session"]))
        events = [(client, self._ids["session"], "authenticated"), (client, self._ids["session"], "initiating session")]
        if rng.random() < 0.1:
            renamed = replace(client, application=f"{client.application} (batch)".strip())
            events.append((renamed, self._ids["session"], "set application_name"))
        if len(self._sessions) > 12:
            events.append((*self._sessions.pop(0), "disconnecting session"))
        for number, (user, session, event) in enumerate(events):
            moment = at + timedelta(milliseconds=number - 40)
            self._rows["sys_connection_log"].append(
                traffic.connection_row(rng, user, session, self._database, event, moment)
            )
        return self._ids["session"]

    def _finish(self, statement: Row, end: datetime) -> None:
        traffic.finish(self._rng, statement, end)
        self._record_end(statement)

    def _record_end(self, statement: Row, effects: Effects | None = None) -> None:
        self._ids["query"] += 1
        for view, rows in step_rows(self._rng, statement, self._ids["query"], self._tables, effects).items():
            self._rows[view] += rows
        self._load(statement, self._ids["query"])

    def _load(self, statement: Row, query: int | None = None) -> None:
        for view, rows in load_rows(statement, self._tables, query).items():
            self._rows[view] += rows

    def _continue_statements(self) -> None:
        """Finish some of the running statements."""
        self._cursor.execute(
            "DELETE FROM redshift.sys_query_history WHERE status NOT IN %s RETURNING *", [traffic.FINAL]
        )
        statements = sorted(fetch_dicts(self._cursor), key=lambda row: row["query_id"])
        unfinished = [statement["query_id"] for statement in statements]
        for view in ("sys_load_history", "sys_load_detail"):
            deletion = sql.SQL("DELETE FROM redshift.{} WHERE query_id = ANY(%s)").format(sql.Identifier(view))
            self._cursor.execute(deletion, [unfinished])
        for statement in statements:
            duration = self._now - statement["start_time"]
            if self._rng.random() < 0.5 or duration > timedelta(minutes=10):
                self._finish(statement, statement["start_time"] + duration * self._rng.uniform(0.5, 1))
            else:
                statement["status"] = self._rng.choice(["running", "returning"])
                traffic.update_running(self._rng, statement, self._now)
                self._load(statement)
            self._rows["sys_query_history"].append(statement)

    def _vacuum(self, table: LiveTable, start: datetime, end: datetime | None, failure: str = "") -> None:
        self._ids["xid"] += 2
        self._ids["query_id"] += 1
        ids = self._ids["xid"], self._ids["query_id"]
        for view, rows in vacuums.vacuum(self._rng, table, self._database, *ids, start, end, failure).items():
            self._rows[view] += rows

    def _continue_vacuums(self) -> None:
        for started in vacuums.open_vacuums(self._cursor, self._now):
            if self._rng.random() < 0.4:
                continue
            finished, changes = vacuums.finish(started, self._now)
            self._rows["stl_vacuum"].append(finished)
            assignments = sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in changes.items()
            )
            statement = sql.SQL("UPDATE redshift.sys_vacuum_history SET {} WHERE transaction_id = %s")
            self._cursor.execute(statement.format(assignments), [started["xid"]])
            self._cursor.execute(_SHRINK, [started["table_id"]])

    def _change_tables(self) -> None:
        """Let tables grow and age; at random, empty, refill or recreate one."""
        rng = self._rng
        for table in rng.sample(self._tables, min(6, len(self._tables))):
            written = rng.randint(1, min(5000, max(2, table.rows // 500)))
            blocks = rng.choice([0] * 20 + [1, 2])
            self._cursor.execute(
                _GROW,
                {
                    "id": table.table_id,
                    "written": written,
                    "kept": written * 4 // 5,
                    "blocks": blocks,
                    "percent": 100 * blocks / catalog.NODE_CAPACITY / catalog.NODES,
                    "aged": round(rng.random() / 10, 2),
                },
            )
        changed = rng.choice([table for table in catalog.sample_tables() if table.schema == "staging"])
        filled = any(table.table_id == changed.table_id for table in self._tables)
        if filled and rng.random() < 0.1:  # svv_table_info does not show empty tables
            self._cursor.execute("DELETE FROM redshift.svv_table_info WHERE table_id = %s", [changed.table_id])
        elif not filled and self._tables and rng.random() < 0.5:
            self._rows["svv_table_info"].append(catalog.table_info(rng, changed, self._database, self._now))
        reports = [table for table in self._tables if table.schema == "reporting"]
        if reports and rng.random() < 0.05:
            self._cursor.execute("SELECT max(oid::bigint) + 14 FROM redshift.pg_class")
            (new,) = self._cursor.fetchone()
            old = rng.choice(reports).table_id
            self._cursor.execute(_RECREATE, {"new": new, "old": old, "now": self._now})
