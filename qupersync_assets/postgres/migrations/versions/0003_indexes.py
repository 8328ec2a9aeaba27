"""Indexes that cost less to keep: times in ascending order, and none that few readers ask for."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# By table: the columns of an index after `cluster`, of which the last is to be read backwards.
_BACKWARDS: dict[str, list[tuple[str, ...]]] = {
    "alert_events": [("event_time",), ("event_md5", "event_time")],
    "applications": [("last_seen",)],
    "query_history": [("start_time",), ("execution_time_us",)],
    "table_scan_stats": [("scan_hour",), ("table_name", "scan_hour")],
    "table_stats": [("size_mb",)],
    "vacuum_history": [("eventtime",), ("table_id", "eventtime")],
}


def upgrade() -> None:
    for name in ("query_history_user_name_start_time_idx", "query_history_query_hash_idx"):
        op.execute(f"DROP INDEX quper.{name}")
    for table, indexes in _BACKWARDS.items():
        for columns in indexes:
            name = "_".join([table, *columns, "idx"])
            op.execute(f"DROP INDEX quper.{name}")
            *first, last = columns
            op.create_index(name, table, ["cluster", *first, sa.text(f"{last} NULLS FIRST")], schema="quper")
