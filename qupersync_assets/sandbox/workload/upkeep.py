"""The upkeep of the warehouse: views of optional jobs about Advisor, ANALYZE, materialized views, queues and locks."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from qupersync_assets.sandbox.warehouse.catalog import NODES, LiveTable
from qupersync_assets.sandbox.warehouse.rows import Row
from qupersync_assets.sandbox.workload.traffic import CLIENTS, microseconds

_MINUTE = timedelta(minutes=1)
# schema, name, base table, state, autorefresh
_VIEWS = [
    ("reporting", "mv_daily_sales", "orders", 1, "t"),
    ("reporting", "mv_funnel", "clicks", 0, "t"),
    ("finance", "mv_open_invoices", "invoices", 102, "f"),
    ("pg_automv", "auto_mv_1", "events", 1, "1"),
]
_REFRESHES = [
    "Refresh successfully updated MV incrementally",
    "Refresh successfully recomputed MV from scratch",
    "MV was already updated",
    "Refresh failed. Serialization failure",
]
# service class, name, priority, concurrency scaling, conditions
_QUEUES = [
    (4, "Service class for system user", "", "off", ["(system user)"]),
    (5, "Service class for super user", "", "off", ["(super user) and (query group: superuser)"]),
    (14, "Short query queue", "", "off", []),
    (100, "Default queue", "Normal", "auto", ["(querytype: any)"]),
    (101, "dashboards", "High", "off", ["(user group: bi)", "(query group: dashboards)"]),
]
# service class, rule, action, metric, operator, value, new priority
_RULES = [
    (101, "too_long", "abort", "query_execution_time", ">", 600, ""),
    (100, "spills", "change_query_priority", "query_temp_blocks_to_disk", ">", 100_000, "lowest"),
    (100, "skewed", "log", "cpu_skew", ">", 1.75, ""),
    (100, "skewed", "log", "query_cpu_time", ">", 60, ""),
]
_STATES = ["Complete", "Complete: 100%", "Abort:This table is already the recommended style.", "Failed"]
_RECOMMENDED = {
    "diststyle": "ALTER DISTSTYLE KEY DISTKEY",
    "sortkey": "ALTER COMPOUND SORTKEY",
    "encode": "ALTER COLUMN",
}


class Upkeep:
    """Builds the rows of one call of the workload; `rows` has them by view."""

    def __init__(self, rng: random.Random, now: datetime, database: str, tables: list[LiveTable]) -> None:
        self.rows: dict[str, list[Row]] = defaultdict(list)
        self._rng = rng
        self._now = now
        self._database = database
        self._tables = tables

    def history(self, length: timedelta) -> None:
        """Build the configuration, and the activity of the time `length` before now."""
        rng, begin = self._rng, self._now - length
        self._configure()
        for table in self._tables:
            self._analyze(table, begin + rng.random() * length, rng.random() < 0.7)
        for schema, name, base, state, _ in _VIEWS:
            for _ in range(6):
                self._refresh(schema, name, begin + rng.random() * length)
            if state > 1:
                self._state(schema, name, base, self._now - length / 3)
        for table, status in zip(rng.sample(self._tables, len(_STATES)), _STATES, strict=True):
            self._optimize(table, begin + rng.random() * length, status)
        for minutes in range(1, 361):
            self._usage(self._now - minutes * _MINUTE)
        self._lock()

    def advance(self, cursor: Any) -> None:
        """Build the activity of a moment, and change the rows of earlier ones."""
        rng = self._rng
        if self._tables and rng.random() < 0.5:
            self._analyze(rng.choice(self._tables), self._now, rng.random() < 0.7)
        if rng.random() < 0.4:
            schema, name, *_ = rng.choice(_VIEWS)
            self._refresh(schema, name, self._now - timedelta(seconds=5))
            cursor.execute(
                "UPDATE redshift.svv_mv_info SET is_stale = CASE WHEN rtrim(name) = %s THEN 'f' ELSE 't' END", [name]
            )
        cursor.execute("UPDATE redshift.sys_serverless_usage SET charged_seconds = 3840 WHERE charged_seconds = 0")
        cursor.execute("SELECT max(start_time) FROM redshift.sys_serverless_usage")
        (newest,) = cursor.fetchone()
        if newest and newest + _MINUTE < self._now:
            self._usage(self._now)
        cursor.execute("DELETE FROM redshift.svv_transactions")
        self._lock()

    def _configure(self) -> None:
        for number, name, priority, scaling, conditions in _QUEUES:
            slots, memory = (-1, -1) if number >= 100 else (5, 250)
            self.rows["stv_wlm_service_class_config"].append(
                {
                    "service_class": number,
                    "queueing_strategy": "QUEUE",
                    "num_query_tasks": slots,
                    "target_num_query_tasks": slots,
                    "evictable": "false",
                    "eviction_threshold": 0,
                    "query_working_mem": memory,
                    "target_query_working_mem": memory,
                    "min_step_mem": 5,
                    "name": name,
                    "max_execution_time": 0,
                    "user_group_wild_card": False,
                    "query_group_wild_card": number == 101,
                    "concurrency_scaling": scaling,
                    "query_priority": priority,
                    "user_role_wild_card": False,
                }
            )
            for condition in conditions:
                self.rows["stv_wlm_classification_config"].append(
                    {
                        "id": len(self.rows["stv_wlm_classification_config"]) + 1,
                        "condition": condition,
                        "action_seq": 0,
                        "action": "assign",
                        "action_service_class": number,
                    }
                )
        self.rows["stv_slices"] += [
            {"node": number // 4, "slice": number, "localslice": number % 4, "type": "C" if number % 4 > 1 else "D"}
            for number in range(4 * NODES)
        ]
        names = "service_class", "rule_name", "action", "metric_name", "metric_operator", "metric_value", "action_value"
        self.rows["stv_wlm_qmr_config"] += [dict(zip(names, rule, strict=True)) for rule in _RULES]
        for number, (kind, change) in enumerate(_RECOMMENDED.items()):
            for table in self._tables[number :: len(_RECOMMENDED)][:3]:
                self.rows["svv_alter_table_recommendations"].append(
                    {
                        "type": kind,
                        "database": self._database,
                        "table_id": table.table_id,
                        "group_id": number or -1,
                        "ddl": f'ALTER TABLE "{table.schema}"."{table.name}" {change} "id"',
                        "auto_eligible": "t" if kind == "encode" else "f",
                    }
                )
        for (schema, name, _, state, autorefresh), is_stale in zip(_VIEWS, "tfut", strict=True):
            self.rows["svv_mv_info"].append(
                {
                    "database_name": self._database,
                    "schema_name": schema,
                    "user_name": "rdsdb" if schema == "pg_automv" else "dbt_prod",
                    "name": name,
                    "is_stale": is_stale,
                    "state": state,
                    "autorewrite": "t",
                    "autorefresh": autorefresh,
                }
            )

    def _analyze(self, table: LiveTable, start: datetime, automatic: bool) -> None:
        rng = self._rng
        end = min(self._now, start + timedelta(seconds=rng.uniform(1, 300)))
        transaction, user = rng.randint(10**6, 10**7), 1 if automatic else rng.choice([100, 101])
        same = {
            "table_id": table.table_id,
            "schema_name": table.schema,
            "table_name": table.name[:30],
            "status": rng.choice(["Full", "Skipped", "PredicateColumn"]),
            "rows": table.rows,
            "modified_rows": table.rows * rng.random() / 3,
        }
        flag, previous = "t" if automatic else "f", start - timedelta(days=rng.randint(1, 9))
        self.rows["sys_analyze_history"].append(
            {
                **same,
                "user_id": user,
                "transaction_id": transaction,
                "database_name": self._database,
                "is_automatic": flag,
                "start_time": start,
                "end_time": end,
                "analyze_threshold_percent": 10,
                "last_analyze_time": previous,
            }
        )
        self.rows["stl_analyze"].append(
            {
                **same,
                "userid": user,
                "xid": transaction,
                "database": self._database,
                "threshold_percent": 10,
                "is_auto": flag,
                "starttime": start,
                "endtime": end,
                "prevtime": previous,
                "num_predicate_cols": 2,
                "num_new_predicate_cols": 0,
                "is_background": flag,
                "auto_analyze_phase": "",
            }
        )

    def _refresh(self, schema: str, name: str, start: datetime) -> None:
        end = start + timedelta(seconds=self._rng.uniform(0.01, 4))
        user = self._rng.choice([1, 101])
        self.rows["sys_mv_refresh_history"].append(
            {
                "user_id": user,
                "session_id": 1_073_741_000,
                "transaction_id": self._rng.randint(10**6, 10**7),
                "database_name": self._database,
                "schema_name": schema,
                "mv_id": 203_000 + len(name),
                "mv_name": name,
                "refresh_type": "Auto" if user == 1 else "Manual",
                "status": self._rng.choice(_REFRESHES),
                "start_time": start,
                "end_time": end,
                "duration": microseconds(end - start),
            }
        )

    def _state(self, schema: str, name: str, base: str, start: datetime) -> None:
        self.rows["sys_mv_state"] += [
            {
                "user_id": 101,
                "transaction_id": self._rng.randint(10**6, 10**7),
                "database_name": self._database,
                "event_desc": event,
                "start_time": start + delay,
                "base_table_database_name": self._database,
                "base_table_schema": schema,
                "base_table_name": base,
                "mv_schema": schema,
                "mv_name": name,
                "state": state,
            }
            for event, state, delay in (
                ("TRUNCATE", "Recompute", timedelta()),
                ("Column type was changed", "Unrefreshable", _MINUTE),
            )
        ]

    def _optimize(self, table: LiveTable, start: datetime, outcome: str) -> None:
        kind = self._rng.choice(["distkey", "sortkey", "encode"])
        for number, status in enumerate(["Start", outcome]):
            self.rows["sys_auto_table_optimization"].append(
                {
                    "transaction_id": self._rng.randint(10**6, 10**7),
                    "session_id": 1_073_741_001,
                    "table_id": table.table_id,
                    "alter_table_type": kind,
                    "status": status,
                    "event_time": min(self._now, start + number * _MINUTE),
                    "alter_from": "SORTKEY: None; " if number and kind == "sortkey" else "",
                }
            )

    def _usage(self, start: datetime) -> None:
        capacity = self._rng.choice([8, 8, 16, 32, 64])
        self.rows["sys_serverless_usage"].append(
            {
                "start_time": start,
                "end_time": start + _MINUTE,
                "compute_seconds": capacity * 60 * self._rng.random(),
                "compute_capacity": capacity,
                "data_storage": 120_000,
                "cross_region_transferred_data": 0,
                "charged_seconds": 0 if self._now - start < 3 * _MINUTE else capacity * 60,
            }
        )

    def _lock(self) -> None:
        """Let one session have a table that another one waits for."""
        table = self._rng.choice(self._tables).table_id if self._tables else 0
        locks = [
            ("transactionid", None, "ExclusiveLock", True),
            ("relation", table, "AccessShareLock", True),
            ("relation", table, "AccessExclusiveLock", False),
        ]
        for number, (kind, relation, mode, granted) in enumerate(locks):
            self.rows["svv_transactions"].append(
                {
                    "txn_owner": CLIENTS[1 + number // 2].user_name,
                    "txn_db": self._database,
                    "xid": 9_000_000 + number // 2,
                    "pid": 1_073_741_100 + number // 2,
                    "txn_start": self._now - timedelta(seconds=90),
                    "lock_mode": mode,
                    "lockable_object_type": kind,
                    "relation": relation,
                    "granted": granted,
                }
            )
