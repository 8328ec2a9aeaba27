"""The schema at version 0004, from the SQL file beside this one. Comments and views follow the specs."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = None


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text())
