"""Count the rows of which a load does not know whether the source still has them."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("ALTER TABLE quper.sync_logs ADD COLUMN rows_undecided bigint NOT NULL DEFAULT '0'")
