"""Steps of finished statements: stl_scan, stl_alert_event_log and sys_query_detail."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from qupersync_assets.sandbox.warehouse.catalog import LiveTable
from qupersync_assets.sandbox.warehouse.rows import Row

_READS_TABLES = ("SELECT", "INSERT", "UPDATE", "DELETE", "CTAS", "UNLOAD")
_NEVER = datetime(2000, 1, 1)  # start and end of a step that never ran

# event, solution
_ALERTS = [
    ("Missing query planner statistics", "Run the ANALYZE command"),
    ("Nested Loop Join in the query plan", "Review the join predicates to avoid Cartesian products"),
    (
        "Very selective query filter:ratio=rows({few})/rows_pre_user_filter({many})=0.0{few}",
        "Review the choice of sort key to enable range restricted scanning, or run the VACUUM command",
    ),
    ("Scanned a large number of deleted rows:{many} rows", "Run the VACUUM command to reclaim deleted space"),
    (
        "Distributed a large number of rows across the network:{many} rows",
        "Review the choice of distribution key to collocate the join or aggregation",
    ),
    (
        "Broadcasted a large number of rows across the network:{many} rows",
        "Review the choice of distribution key to collocate the join",
    ),
    ("DS_DIST_ALL_INNER for Hash Join in the query plan", "Review the distribution style of the inner table"),
]


def step_rows(rng: random.Random, statement: Row, query: int, tables: list[LiveTable]) -> dict[str, list[Row]]:
    """Build the rows of a finished statement, by view.

    Args:
        rng: the random numbers.
        statement: its row of sys_query_history.
        query: its number in the STL views, which differs from its query_id.
        tables: the user tables.
    """
    scans: list[Row] = []
    alerts: list[Row] = []
    details: list[Row] = []
    read_tables = statement["query_type"] in _READS_TABLES and not statement["result_cache_hit"]
    if read_tables and statement["status"] == "success":
        scanned = [table for table in tables if table.qualified in statement["query_text"]]
        event, solution = rng.choice(_ALERTS)
        event = event.format(few=rng.randint(1, 99), many=rng.randint(10**6, 10**8))
        for segment, table in enumerate(scanned):
            scans += _scans(rng, statement, query, segment, table)
            has_alert = rng.random() < 0.15
            if has_alert:
                alerts += _alerts(rng, statement, query, segment, event, solution)
            details.append(_detail(rng, statement, segment, table, event if has_alert else None))
        if details:
            details.append(_child_level(statement))
    return {"stl_scan": scans, "stl_alert_event_log": alerts, "sys_query_detail": details}


def _scans(rng: random.Random, statement: Row, query: int, segment: int, table: LiveTable) -> list[Row]:
    """Build one scan of `table` per slice, and sometimes the scan of an intermediate result."""
    start, end = _within(rng, statement)
    rows = []
    slices = rng.randint(2, 4)
    restricted, width = rng.random() < 0.4, rng.randint(8, 400)
    for number in range(slices):
        before = table.rows // slices // (rng.randint(2, 50) if restricted else 1)
        visible = int(before * rng.uniform(0.7, 1))
        out = int(visible * rng.random() ** 3)
        scan = _scan(statement, query, number, segment, start, end) | {
            "rows": out,
            "bytes": out * width,
            "type": 2,
            "tbl": table.table_id,
            "is_rrscan": "t" if restricted else "f",
            "rows_pre_filter": before,
            "rows_pre_user_filter": visible,
            "perm_table_name": table.name,
        }
        if number and rng.random() < 0.004:
            scan |= {"starttime": _NEVER, "endtime": _NEVER, "rows": 0, "bytes": 0}
        rows.append(scan)
    if rng.random() < 0.3:
        number = rng.choice([0, 12_811])  # slices from 10000 on are on the leader node
        internal = {"type": rng.choice([1, 3]), "perm_table_name": "Internal Worktable"}
        rows.append(_scan(statement, query, number, segment + 2, start, end) | internal)
    return rows


def _scan(statement: Row, query: int, number: int, segment: int, start: datetime, end: datetime) -> Row:
    return {
        "userid": statement["user_id"],
        "query": query,
        "slice": number,
        "segment": segment,
        "step": 0,
        "starttime": start,
        "endtime": end,
        "tasknum": 10 + number,
        "rows": 1,
        "bytes": 8,
        "fetches": 0,
        "type": 3,
        "tbl": 0,
        "is_rrscan": "f",
        "is_delayed_scan": "f",
        "rows_pre_filter": 0,
        "rows_pre_user_filter": 0,
        "perm_table_name": "",
        "is_rlf_scan": "f",
        "is_rlf_scan_reason": 0,
        "num_em_blocks": 0,
        "runtime_filtering": "f",
        "is_vectorized_scan": "t",
    }


def _alerts(rng: random.Random, statement: Row, query: int, segment: int, event: str, solution: str) -> list[Row]:
    """Build the rows of one alert: one per slice, for some slices two, with different processes."""
    return [
        {
            "userid": statement["user_id"],
            "query": query,
            "slice": number,
            "segment": segment,
            "step": 1,
            "pid": statement["session_id"] + number + repeat,
            "xid": statement["transaction_id"],
            "event": event,
            "solution": solution,
            "event_time": statement["start_time"],
        }
        for number in range(rng.randint(2, 4))
        for repeat in range(rng.choice([1, 1, 2]))
    ]


def _detail(rng: random.Random, statement: Row, segment: int, table: LiveTable, alert: str | None) -> Row:
    start, end = _within(rng, statement)
    return _level(statement, segment, start, end, "Step") | {
        "stream_id": segment,
        "segment_id": segment,
        "step_id": 0,
        "step_name": "scan",
        "table_id": table.table_id,
        "table_name": f"{statement['database_name']}.{table.schema}.{table.name}",
        "is_rrscan": rng.choice("tf"),
        "alert": alert,
        "input_bytes": table.rows * 8,
        "input_rows": table.rows,
        "output_bytes": table.rows // 9 * 8,
        "output_rows": table.rows // 9,
        "blocks_read": table.rows // 100_000,
        "blocks_write": 0,
        "local_read_io": table.rows // 100_000,
        "remote_read_io": 0,
        "source": "user",
        "data_skewness": rng.randint(0, 100),
        "time_skewness": rng.randint(0, 100),
        "plan_node_id": segment,
    }


def _child_level(statement: Row) -> Row:
    level = _level(statement, 0, statement["start_time"], statement["end_time"], "Child query")
    return level | {"stream_id": -1, "segment_id": -1, "step_id": -1}


def _level(statement: Row, segment: int, start: datetime, end: datetime, level: str) -> Row:
    spilled = 40 if segment and statement["query_id"] % 9 == 0 else 0
    return {
        "user_id": statement["user_id"],
        "query_id": statement["query_id"],
        "child_query_sequence": 1,
        "start_time": start,
        "end_time": end,
        "duration": (end - start) // timedelta(microseconds=1),
        "is_active": "f",
        "spilled_block_local_disk": spilled,
        "spilled_block_remote_disk": 0,
        "metrics_level": level,
    }


def _within(rng: random.Random, statement: Row) -> tuple[datetime, datetime]:
    whole = statement["end_time"] - statement["start_time"]
    return statement["start_time"] + whole * rng.uniform(0, 0.4), statement["end_time"] - whole * rng.uniform(0, 0.4)
