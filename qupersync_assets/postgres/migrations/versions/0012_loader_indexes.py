"""Index long queries by their end, and log rows by their job: both are looked up at each load."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute(
        """
        CREATE INDEX IF NOT EXISTS query_history_end_time_start_time_idx ON quper.query_history
            (cluster, end_time, start_time)
            WHERE end_time - start_time > interval '60 seconds';
        CREATE INDEX IF NOT EXISTS sync_logs_job_idx ON quper.sync_logs (cluster, sync_job_id, id)
        """
    )
