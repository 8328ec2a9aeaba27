"""Loads by COPY: rows of sys_load_history, sys_load_detail, sys_load_error_detail and stl_load_errors."""

from __future__ import annotations

import random
from datetime import timedelta

from qupersync_assets.sandbox.warehouse.catalog import LiveTable
from qupersync_assets.sandbox.warehouse.rows import Row

_STATUS = {"success": "completed", "failed": "aborted", "canceled": "aborted"}
# column, type, length, value, code, message
_ERRORS = [
    ("amount", "numeric", "", "12,5", 1207, "Invalid digit, Value ',', Pos 2, Type: Decimal"),
    ("created_at", "timestamp", "", "2026-13-01", 1206, "Invalid timestamp format or value [YYYY-MM-DD HH24:MI:SS]"),
    ("country", "char", "2", "Polska", 1204, "Char length exceeds DDL length"),
    (None, None, None, None, 1214, "Delimiter not found"),
]


def load_rows(statement: Row, tables: list[LiveTable], query: int | None = None) -> dict[str, list[Row]]:
    """Build the rows of a COPY, by view.

    Args:
        statement: its row of sys_query_history.
        tables: the user tables.
        query: its number in the STL views; None while it runs.
    """
    table = next((table for table in tables if table.qualified in statement["query_text"]), None)
    if statement["query_type"] != "COPY" or table is None:
        return {}
    # A load keeps its files while it runs.
    rng = random.Random(statement["query_id"])
    start, end = statement["start_time"], statement["end_time"]
    folder = f"s3://landing/{start:%Y-%m-%d}/"
    files = [f"{folder}part-{number:04}.json" for number in range(rng.choice([1, 1, 3, 8]))]
    size = int(rng.lognormvariate(14, 2)) + 100
    errors = _errors(rng, statement, table, files[0], query) if query is not None else []
    history = {
        **{name: statement[name] for name in ("user_id", "query_id", "transaction_id", "session_id", "database_name")},
        "status": _STATUS.get(statement["status"], "running"),
        "table_name": table.name,
        "start_time": start,
        "end_time": None if query is None else end,
        "duration": statement["elapsed_time"],
        "data_source": folder,
        "file_format": "json",
        "loaded_rows": size // 120 if statement["status"] == "success" else 0,
        "loaded_bytes": size // 2 if statement["status"] == "success" else 0,
        "source_file_count": len(files),
        "source_file_bytes": size * len(files),
        "file_count_scanned": len(files),
        "file_bytes_scanned": size * len(files),
        "error_count": len(errors),
        "copy_job_id": 0,
    }
    details = [
        {
            "user_id": statement["user_id"],
            "query_id": statement["query_id"],
            "file_name": file,
            "bytes_scanned": min(size, 2**31 - 1),
            "lines_scanned": min(size // 120, 2**31 - 1),
            "record_time": start + timedelta(seconds=1),
            "splits_scanned": 1 if "GZIP" in statement["query_text"] else 1 + size // 64_000_000,
            "start_time": start,
            "end_time": end,
        }
        for file in files
    ]
    stl = [_as_stl(error, query) for error in errors]
    return {
        "sys_load_history": [history],
        "sys_load_detail": details,
        "sys_load_error_detail": errors,
        "stl_load_errors": stl,
    }


def _errors(rng: random.Random, statement: Row, table: LiveTable, file: str, query: int | None) -> list[Row]:
    count = rng.randint(1, 3) if statement["status"] == "failed" or rng.random() < 0.1 else 0
    found = []
    for line in rng.sample(range(1, 5000), count):
        column, type_, length, _, code, text = rng.choice(_ERRORS)
        found.append(
            {
                **{name: statement[name] for name in ("user_id", "query_id", "transaction_id", "session_id")},
                "database_name": statement["database_name"],
                "table_id": table.table_id,
                "start_time": statement["start_time"],
                "file_name": file,
                "line_number": line,
                "column_name": column,
                "column_type": type_,
                "column_length": length,
                "position": 2,
                "error_code": code,
                "error_message": text,
            }
        )
    return found


def _as_stl(error: Row, query: int | None) -> Row:
    value = next(value for *_, value, code, _ in _ERRORS if code == error["error_code"])
    return {
        "userid": error["user_id"],
        "slice": 0,
        "tbl": error["table_id"],
        "starttime": error["start_time"],
        "session": error["session_id"],
        "query": query,
        "filename": error["file_name"],
        "line_number": error["line_number"],
        "colname": error["column_name"],
        "type": error["column_type"],
        "col_length": error["column_length"],
        "position": error["position"],
        "raw_line": f"{error['line_number']}|O'Brien|{value or ''}",
        "raw_field_value": value,
        "err_code": error["error_code"],
        "err_reason": error["error_message"],
    }
