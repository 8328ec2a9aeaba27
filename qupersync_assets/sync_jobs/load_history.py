"""quper.load_history: COPY commands, from sys_load_history and the files of sys_load_detail."""

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, Text

from qupersync_assets.spec import (
    UTC_TIME,
    ColumnType,
    Sensitive,
    SyncSpec,
    column,
    may_change,
    quper_table,
    status_expression,
)

ENDED = ("completed", "aborted")


def _load(
    name: str, type_: ColumnType, comment: str, reads: str = "", sensitive: Sensitive | None = None
) -> Column[Any]:
    return column(name, type_, comment, reads or name, f"l.{reads or name}", sensitive=sensitive)


SPEC = SyncSpec(
    sync_job_id="load_history_sync",
    optional=True,
    table=quper_table(
        "load_history",
        _load("user_id", Integer, "user who sent the COPY; 1 is Redshift itself"),
        _load("query_id", BigInteger, "the COPY in quper.query_history"),
        _load("transaction_id", BigInteger, "transaction"),
        _load("session_id", Integer, "process id of the session"),
        _load("database_name", Text, "database"),
        column(
            "status",
            Text,
            "running, completed or aborted; stale: not ended after seven days; unknown: Redshift no longer lists it",
            ("status", "start_time"),
            status_expression(ENDED, "l."),
        ),
        _load("table_name", Text, "table that is loaded"),
        _load("start_time", UTC_TIME, "start (UTC)"),
        _load("end_time", UTC_TIME, "end (UTC)"),
        _load("duration_us", BigInteger, "duration, in microseconds", "duration"),
        _load("data_source", Text, "location of the files in S3", sensitive="data"),
        _load("file_format", Text, "csv, txt, json, avro, orc, parquet ..."),
        _load("loaded_rows", BigInteger, "rows that were loaded"),
        _load("loaded_bytes", BigInteger, "bytes that were loaded"),
        _load("source_file_count", Integer, "files"),
        _load("source_file_bytes", BigInteger, "size of the files, in bytes"),
        _load("file_count_scanned", Integer, "files that were read"),
        _load("file_bytes_scanned", BigInteger, "bytes that were read from the files"),
        _load("error_count", BigInteger, "errors"),
        _load("copy_job_id", BigInteger, "COPY JOB that started the load; 0 if none"),
        # Redshift may delete the rows of files before the row of their load.
        column(
            "splits_scanned",
            BigInteger,
            "parts in which the files were read, over all files; more than source_file_count if files were split",
            "sys_load_detail.splits_scanned",
            "d.splits_scanned",
            merge="greatest",
        ),
        key=("query_id",),
        comment="COPY commands, running and ended; kept longer than in Redshift.",
        indexes=[("start_time",), ("table_name", "start_time")],
        shared_indexes=[("start_time",)],
    ),
    kind="history",
    time_column="start_time",
    description="Loads by COPY: table, files, rows, bytes, duration and errors.",
    sources=("sys_load_history", "sys_load_detail"),
    needs=("sys_load_detail.query_id", "sys_load_detail.start_time"),
    from_clause="""
FROM sys_load_history l
LEFT JOIN (
    SELECT query_id, SUM(splits_scanned) AS splits_scanned
    FROM sys_load_detail
    WHERE start_time >= {since} OR start_time IS NULL OR query_id IN ({mutable_keys})
    GROUP BY query_id
) d ON d.query_id = l.query_id
WHERE l.start_time >= {since} OR l.start_time IS NULL OR l.query_id IN ({mutable_keys})
ORDER BY l.start_time, l.query_id""",
    mutable_where=may_change(ENDED),
    version_column="start_time",
    times=("start_time", "start_time"),
)
