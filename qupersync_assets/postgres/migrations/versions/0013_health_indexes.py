"""Index what the evaluation of a cluster's health sums up, and what to fix first."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

# The tables that jobs, and the findings, create.
_CREATED = {
    "query_metrics": """
        CREATE INDEX IF NOT EXISTS query_metrics_query_id_idx ON quper.query_metrics (cluster, query_id)
        WHERE spilled_mb > 0 OR rows_inserted BETWEEN 1 AND 100""",
    "health_findings": """
        CREATE INDEX IF NOT EXISTS health_findings_first_idx ON quper.health_findings (
            cluster, (CASE severity WHEN 'critical' THEN 1 WHEN 'warning' THEN 2 ELSE 3 END),
            (round((ln(1.0::float + coalesce(size_mb, 0)) + ln(1.0::float + coalesce(times, 0)))::numeric, 2)) DESC,
            opened_at
        ) WHERE resolved_at IS NULL""",
}


def upgrade() -> None:
    present = sa.inspect(op.get_bind()).get_table_names("quper")
    for table, statement in _CREATED.items():
        if table in present:
            op.execute(statement)
