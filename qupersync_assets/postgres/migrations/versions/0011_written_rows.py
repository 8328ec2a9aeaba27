"""Index when queries and their metrics were written: an evaluation of the health of a cluster reads the new ones."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    present = sa.inspect(op.get_bind()).get_table_names("quper")
    for table in ("query_history", "query_metrics"):
        if table in present:
            op.execute(
                f"CREATE INDEX IF NOT EXISTS {table}_synced_at_idx ON quper.{table} USING brin (synced_at) "
                "WITH (autosummarize = on)"
            )
