"""Add the read mode, which code compares; rename its reason; store missing columns as an array."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE quper.sync_logs RENAME COLUMN read_why TO read_reason; "
        "ALTER TABLE quper.sync_logs ADD COLUMN read_mode text, "
        "ALTER COLUMN columns_missing TYPE text[] USING string_to_array(columns_missing, ', ')"
    )
    op.execute(
        "UPDATE quper.sync_logs SET read_mode = "
        "CASE read_reason WHEN 'news' THEN 'incremental' ELSE 'full' END WHERE read_reason IS NOT NULL"
    )
