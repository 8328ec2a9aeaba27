"""Vacuums of the user tables: rows of stl_vacuum and sys_vacuum_history."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from qupersync_assets.sandbox.warehouse.catalog import LiveTable
from qupersync_assets.sandbox.warehouse.rows import Row, fetch_dicts

_STARTED = [
    "Started",
    "Started Delete Only",
    "Started Delete Only (Sorted >= 95%)",  # 35 characters: the view truncates it to 30
    "Started Sort Only",
    "Started Ranged Partition",
]
_SKIPPED = ["Skipped", "Skipped (delete only)", "Skipped (sort only)", "Skipped(sorted>=95%)", "Skipped (0 rows)"]
_BACKGROUND = "[VacuumBG] "
_STATUS_LENGTH = 30
_MAX_INTEGER = 2**31 - 1  # some columns are documented as integer: 35 minutes, or 2 billion rows

# An unfinished vacuum that started earlier than this was aborted.
ABORTED_AFTER = timedelta(hours=1)


def vacuum(
    rng: random.Random,
    table: LiveTable,
    database: str,
    transaction: int,
    query_id: int,
    start: datetime,
    end: datetime | None,
    failure: str = "",
) -> dict[str, list[Row]]:
    """Build the rows of a vacuum, by view; a tenth of the vacuums are skipped.

    Args:
        rng: the random numbers.
        table: the table.
        database: its database.
        transaction: id of the transaction.
        query_id: id of the query.
        start: start of the vacuum.
        end: its end, None if it still runs.
        failure: the status with which it ended after a minute, if it failed.
    """
    automatic = rng.random() < 0.4
    skipped = rng.random() < 0.1 and not failure
    status = rng.choice(_SKIPPED if skipped else _STARTED)
    rows = table.rows
    started = {
        "userid": 1 if automatic else rng.choice([100, 101, 104]),
        "xid": transaction,
        "table_id": table.table_id,
        "status": ((_BACKGROUND if automatic else "") + status)[:_STATUS_LENGTH],
        "rows": rows,
        "sortedrows": min(int(rows * rng.uniform(0.6, 1)), _MAX_INTEGER),
        "blocks": rows // 20_000 + 8,
        "max_merge_partitions": None,
        "eventtime": start,
        "reclaimable_rows": int(rows * 0.1 * rng.random()),
        "reclaimable_space_mb": rows // 200_000,
        "cutoff_xid": transaction - 3,
        "is_recluster": 0,
    }
    history = {
        "user_id": started["userid"],
        "transaction_id": transaction,
        "query_id": None if automatic else query_id,
        "database_name": database,
        "schema_name": table.schema,
        "table_name": table.name,
        "table_id": table.table_id,
        "vacuum_type": "Delete" if "Delete" in status else "Sort" if "Sort" in status else "Full",
        "is_automatic": automatic,
        "status": "Skipped" if skipped else "Initialize",
        "start_time": start,
        "end_time": start if skipped else None,
        "record_time": start,
        "duration": 0 if skipped else None,
        "rows_before_vacuum": rows,
        "size_before_vacuum": started["blocks"],
        "reclaimable_rows": started["reclaimable_rows"],
        "reclaimed_rows": None,
        "reclaimed_blocks": None,
        "sortedrows_before_vacuum": started["sortedrows"],
        "sortedrows_after_vacuum": None,
    }
    if failure:
        ended = start + timedelta(minutes=1)
        changes = {"status": failure, "end_time": ended, "record_time": ended, "duration": 60_000_000}
        return {
            "stl_vacuum": [started, started | {"status": failure, "eventtime": ended}],
            "sys_vacuum_history": [history | changes],
        }
    if skipped or end is None:
        return {"stl_vacuum": [started], "sys_vacuum_history": [history]}
    finished, changes = finish(started, end)
    return {"stl_vacuum": [started, finished], "sys_vacuum_history": [history | changes]}


def finish(started: Row, end: datetime) -> tuple[Row, Row]:
    """Return the Finished row of stl_vacuum, and the changed columns of sys_vacuum_history."""
    reclaimed = started["reclaimable_rows"]
    rows = started["rows"] - reclaimed
    background = _BACKGROUND if started["status"].startswith(_BACKGROUND) else ""
    finished = started | {
        "status": background + "Finished",
        "rows": rows,
        "sortedrows": min(rows, _MAX_INTEGER),
        "blocks": rows // 20_000 + 8,
        "eventtime": end,
        "reclaimable_rows": 0,
        "reclaimable_space_mb": 0,
    }
    changes = {
        "status": "Complete",
        "end_time": end,
        "record_time": end,
        "duration": min((end - started["eventtime"]) // timedelta(microseconds=1), _MAX_INTEGER),
        "reclaimed_rows": reclaimed,
        "reclaimed_blocks": started["blocks"] - finished["blocks"],
        "sortedrows_after_vacuum": finished["sortedrows"],
    }
    return finished, changes


def open_vacuums(cursor: Any, now: datetime) -> list[Row]:
    """Return the Started rows of stl_vacuum whose vacuum still runs."""
    cursor.execute(
        """
        SELECT s.* FROM redshift.stl_vacuum s
        WHERE s.status LIKE '%%Started%%' AND s.eventtime > %s AND NOT EXISTS (
            SELECT 1 FROM redshift.stl_vacuum f
            WHERE f.xid = s.xid AND f.table_id = s.table_id AND f.status LIKE '%%Finished%%')
        ORDER BY s.xid
        """,
        [now - ABORTED_AFTER],
    )
    return fetch_dicts(cursor)
