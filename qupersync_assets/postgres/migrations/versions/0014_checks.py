"""Keep the results of checks with the load that they are about: commands read them without Dagster."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute("ALTER TABLE quper.sync_logs ADD COLUMN checks jsonb")
