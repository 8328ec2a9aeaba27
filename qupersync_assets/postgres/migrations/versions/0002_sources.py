"""Where rows were read from, what was read and what was lost; and rows that left their source."""

from alembic import op

revision = "0002"
down_revision = "0001"

_OUTCOME = """
CASE WHEN status ILIKE '%skipped%' THEN 'skipped'
     WHEN status ILIKE '%finished%' THEN 'finished'
     WHEN status ILIKE '%failed%' THEN 'failed'
     WHEN status ILIKE '%started%' THEN 'started' END"""
_VACUUM_TYPE = """
CASE WHEN status ILIKE '%finished%' THEN NULL
     WHEN status ILIKE '%delete only%' THEN 'DELETE ONLY'
     WHEN status ILIKE '%sort only%' THEN 'SORT ONLY'
     WHEN status ILIKE '%reindex%' THEN 'REINDEX'
     WHEN status ILIKE '%ranged partition%' THEN 'RANGED PARTITION'
     WHEN status ILIKE '%recluster%' THEN 'RECLUSTER'
     WHEN status ILIKE '%started%' THEN 'FULL' END"""


def upgrade() -> None:
    for table in ("table_stats", "node_details", "column_stats", "applications"):
        op.execute(f"ALTER TABLE quper.{table} ADD COLUMN removed_at timestamptz")
    op.execute(
        "ALTER TABLE quper.sync_logs ADD COLUMN source text, ADD COLUMN columns_missing text, "
        "ADD COLUMN rows_removed bigint NOT NULL DEFAULT '0', "
        "ADD COLUMN read_from timestamptz, ADD COLUMN read_to timestamptz, ADD COLUMN read_why text, "
        "ADD COLUMN gap_from timestamptz, ADD COLUMN gap_to timestamptz"
    )
    # Until now there was one source.
    op.execute(
        "ALTER TABLE quper.alert_events DROP CONSTRAINT alert_events_pkey, "
        "ADD COLUMN source_view text NOT NULL DEFAULT 'stl_alert_event_log', ALTER COLUMN query TYPE bigint, "
        "ADD CONSTRAINT alert_events_pkey PRIMARY KEY (cluster, source_view, query, segment, step, event_md5)"
    )
    op.execute("ALTER TABLE quper.alert_events ALTER COLUMN source_view DROP DEFAULT")
    op.execute(
        "ALTER TABLE quper.vacuum_history DROP COLUMN outcome, DROP COLUMN vacuum_type, "
        f"ADD COLUMN outcome text GENERATED ALWAYS AS ({_OUTCOME}) STORED, "
        f"ADD COLUMN vacuum_type text GENERATED ALWAYS AS ({_VACUUM_TYPE}) STORED"
    )
