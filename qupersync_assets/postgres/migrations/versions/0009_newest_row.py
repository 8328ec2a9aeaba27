"""Record the newest row of a history with each load, to notice tables that were restored from a backup."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("ALTER TABLE quper.sync_logs ADD COLUMN newest_row_at timestamptz")
