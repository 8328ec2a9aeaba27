"""Sum up the rows that a sort key could skip, for long statements."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("query_metrics", schema="quper"):
        op.execute("ALTER TABLE quper.query_metrics ADD COLUMN unsorted_rows numeric(38, 0)")
