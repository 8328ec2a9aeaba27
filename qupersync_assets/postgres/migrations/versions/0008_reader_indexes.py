"""Index what readers of all clusters sort by: size of tables, start and spill of queries, days of a table."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# Tables that specs create: those of version 0007 had other indexes.
_CREATED = {
    "query_metrics": (
        "CREATE INDEX IF NOT EXISTS query_metrics_all_start_time_idx ON quper.query_metrics (start_time)",
        "CREATE INDEX IF NOT EXISTS query_metrics_all_spilled_mb_idx ON quper.query_metrics (spilled_mb) "
        "WHERE spilled_mb > 0",
        "DROP INDEX IF EXISTS quper.query_metrics_spilled_mb_idx",
    ),
    "table_stats_daily": (
        "CREATE INDEX IF NOT EXISTS table_stats_daily_all_table_id_day_idx ON quper.table_stats_daily (table_id, day)",
    ),
    "node_details_daily": (
        "CREATE INDEX IF NOT EXISTS node_details_daily_all_node_day_idx ON quper.node_details_daily (node, day)",
    ),
}


def upgrade() -> None:
    op.execute("CREATE INDEX table_stats_all_size_mb_idx ON quper.table_stats (size_mb)")
    op.execute("DROP INDEX quper.table_stats_size_mb_idx")
    present = sa.inspect(op.get_bind()).get_table_names("quper")
    for table, statements in _CREATED.items():
        for statement in statements if table in present else ():
            op.execute(statement)
