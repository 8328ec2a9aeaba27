"""Steps of finished statements, and the STL views of queries: stl_query, stl_scan, stl_alert_event_log, ..."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import datetime, timedelta

from qupersync_assets.sandbox.warehouse.catalog import LiveTable
from qupersync_assets.sandbox.warehouse.rows import Row
from qupersync_assets.sandbox.workload.effects import Alert, Effects, choose_alert

_READS_TABLES = ("SELECT", "INSERT", "UPDATE", "DELETE", "CTAS", "UNLOAD")
_INSERTS = ("INSERT", "CTAS", "COPY")
_NEVER = datetime(2000, 1, 1)  # start and end of a step that never ran


_STEPS = ("scan", "nestloop", "distribute", "broadcast", "hashjoin", "insert", "return")


def step_rows(
    rng: random.Random, statement: Row, query: int, tables: list[LiveTable], effects: Effects | None = None
) -> dict[str, list[Row]]:
    """Build the rows of a finished statement in the views of steps and of STL queries, by view.

    Args:
        rng: the random numbers.
        statement: its row of sys_query_history.
        query: its number in the STL views, which differs from its query_id.
        tables: the user tables.
        effects: what it does; by default that is random.
    """
    rows: dict[str, list[Row]] = defaultdict(list)
    runs_steps = statement["query_type"] in (*_READS_TABLES, "COPY") and not statement["result_cache_hit"]
    if not runs_steps or statement["status"] != "success":
        return rows
    start = statement["start_time"] + timedelta(microseconds=statement["planning_time"])
    details = rows["sys_query_detail"]
    only_writes = statement["query_type"] == "COPY" or (effects and effects.inserted)
    scanned = [] if only_writes else [table for table in tables if table.qualified in statement["query_text"]]
    for segment, table in enumerate(scanned):
        rows["stl_scan"] += _scans(rng, statement, query, segment, table)
        alert = choose_alert(rng, segment, effects)
        event = alert.event.format(few=rng.randint(1, 99), many=rng.randint(10**6, 10**8)) if alert else None
        details.append(_scan_detail(rng, statement, segment, table))
        if alert:
            if alert.step_name != "scan":
                details.append(_detail(rng, statement, segment, alert.step_name, rng.randint(10**6, 10**8)))
            details[-1]["alert"] = event
            step = details[-1]["step_id"]
            rows["stl_alert_event_log"] += _alerts(rng, statement, query, segment, step, start, str(event), alert)
    last = max((detail["segment_id"] for detail in details), default=0)
    if statement["query_type"] in _INSERTS:
        inserted = effects.inserted if effects else int(rng.lognormvariate(4, 3)) + 1
        details.append(_detail(rng, statement, last, "insert", inserted))
    elif statement["query_type"] == "SELECT":
        details.append(_detail(rng, statement, last, "return", statement["returned_rows"]))
    if not details:  # it names no table that exists, so that no node executes a part of it
        return rows
    if effects:
        spilled = {"spilled_block_local_disk": effects.spilled_mb, "spilled_block_remote_disk": 0}
        details[-1] |= spilled if details[-1]["step_name"] != "scan" else {}
    rows["stl_query"].append(_stl_query(statement, query, start))
    rows["svl_query_metrics_summary"].append(_metrics_summary(statement, query, details))
    details.append(_child_level(statement, details))
    return rows


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


def _alerts(
    rng: random.Random, statement: Row, query: int, segment: int, step: int, start: datetime, event: str, alert: Alert
) -> list[Row]:
    """Build the rows of one alert: one per slice, for some slices two, with different processes."""
    return [
        {
            "userid": statement["user_id"],
            "query": query,
            "slice": number,
            "segment": segment,
            "step": step,
            "pid": statement["session_id"] + number + repeat,
            "xid": statement["transaction_id"],
            "event": event,
            "solution": alert.solution,
            "event_time": start,
        }
        for number in range(rng.randint(2, 4))
        for repeat in range(rng.choice([1, 1, 2]))
    ]


def _stl_query(statement: Row, query: int, start: datetime) -> Row:
    return {
        "userid": statement["user_id"],
        "query": query,
        "label": statement["query_label"] or "default",
        "xid": statement["transaction_id"],
        "pid": statement["session_id"],
        "database": statement["database_name"],
        "querytxt": statement["query_text"],
        "starttime": start,
        "endtime": max(start, statement["end_time"] - timedelta(microseconds=50)),
        "aborted": 0,
        "insert_pristine": 0,
        "concurrency_scaling_status": 0,
    }


def _metrics_summary(statement: Row, query: int, details: list[Row]) -> Row:
    def total(column: str, *steps: str) -> int:
        return sum(detail[column] for detail in details if not steps or detail["step_name"] in steps)

    seconds = statement["execution_time"] // 10**6
    return {
        "userid": statement["user_id"],
        "query": query,
        "service_class": statement["service_class_id"],
        "query_cpu_time": seconds // 2,
        "query_blocks_read": total("blocks_read"),
        "query_execution_time": seconds,
        "query_cpu_usage_percent": 12.5,
        "query_temp_blocks_to_disk": total("spilled_block_local_disk"),
        "segment_execution_time": seconds,
        "cpu_skew": 1.25,
        "io_skew": 1.5,
        "scan_row_count": total("input_rows", "scan"),
        "join_row_count": total("output_rows", "nestloop", "hashjoin"),
        "nested_loop_join_row_count": total("output_rows", "nestloop"),
        "return_row_count": total("output_rows", "return"),
        "query_queue_time": statement["queue_time"] // 10**6,
    }


def _scan_detail(rng: random.Random, statement: Row, segment: int, table: LiveTable) -> Row:
    return _detail(rng, statement, segment, "scan", table.rows // 9) | {
        "table_id": table.table_id,
        "table_name": f"{statement['database_name']}.{table.schema}.{table.name}",
        "is_rrscan": rng.choice("tf"),
        "input_bytes": table.rows * 8,
        "input_rows": table.rows,
        "blocks_read": table.rows // 100_000,
        "local_read_io": table.rows // 100_000,
        "source": "user",
    }


def _detail(rng: random.Random, statement: Row, segment: int, name: str, rows: int) -> Row:
    start, end = _within(rng, statement)
    spills = name != "scan" and statement["query_id"] % 9 == 0
    return _level(statement, start, end, "Step") | {
        "stream_id": segment,
        "segment_id": segment,
        "step_id": _STEPS.index(name),
        "step_name": name,
        "input_bytes": rows * 12,
        "input_rows": rows,
        "output_bytes": rows * 8,
        "output_rows": rows,
        "blocks_read": 0,
        "blocks_write": 0,
        "local_read_io": 0,
        "remote_read_io": 0,
        "data_skewness": rng.randint(0, 100),
        "time_skewness": rng.randint(0, 100),
        "spilled_block_local_disk": 40 if spills else 0,
        "spilled_block_remote_disk": 7 if spills and statement["query_id"] % 2 else 0,
        "plan_node_id": segment,
    }


def _child_level(statement: Row, details: list[Row]) -> Row:
    """Build the row that sums up the steps of the only child query."""
    sums = ("spilled_block_local_disk", "spilled_block_remote_disk", "blocks_read", "input_rows", "output_rows")
    return (
        _level(statement, statement["start_time"], statement["end_time"], "Child query")
        | {"stream_id": -1, "segment_id": -1, "step_id": -1}
        | {column: sum(detail[column] for detail in details) for column in sums}
    )


def _level(statement: Row, start: datetime, end: datetime, level: str) -> Row:
    return {
        "user_id": statement["user_id"],
        "query_id": statement["query_id"],
        "child_query_sequence": 1,
        "start_time": start,
        "end_time": end,
        "duration": (end - start) // timedelta(microseconds=1),
        "is_active": "f",
        "metrics_level": level,
    }


def _within(rng: random.Random, statement: Row) -> tuple[datetime, datetime]:
    whole = statement["end_time"] - statement["start_time"]
    return statement["start_time"] + whole * rng.uniform(0, 0.4), statement["end_time"] - whole * rng.uniform(0, 0.4)
