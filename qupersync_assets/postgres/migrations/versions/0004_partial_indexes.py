"""Indexes of the queries that are asked for by them: the slow ones, and those that may still change."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TABLE = "query_history"


def upgrade() -> None:
    op.drop_index("query_history_execution_time_us_idx", _TABLE, schema="quper")
    op.create_index(
        "query_history_execution_time_us_idx",
        _TABLE,
        ["cluster", sa.text("execution_time_us NULLS FIRST")],
        schema="quper",
        postgresql_where=sa.text("execution_time_us >= 1000000"),
    )
    op.create_index(
        "query_history_start_time_query_id_idx",
        _TABLE,
        ["cluster", "start_time", "query_id"],
        schema="quper",
        postgresql_where=sa.text("coalesce(status, '') NOT IN ('success', 'failed', 'canceled')"),
    )
