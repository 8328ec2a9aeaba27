"""Give alerts their table and query, queries their application, vacuums their names and the kind that a status cut."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE quper.alert_events ADD COLUMN table_id bigint, ADD COLUMN table_name text, "
        "ADD COLUMN table_origin text, ADD COLUMN tables_scanned bigint, ADD COLUMN query_id bigint, "
        "ADD COLUMN query_match text"
    )
    op.execute("CREATE INDEX alert_events_query_id_idx ON quper.alert_events (cluster, query_id)")
    op.execute(
        "CREATE INDEX alert_events_table_id_event_time_idx ON quper.alert_events (cluster, table_id, event_time)"
    )
    op.execute("ALTER TABLE quper.query_history ADD COLUMN application_name text")
    # PostgreSQL 17 is the first that can change the expression of a generated column.
    op.execute(
        "ALTER TABLE quper.vacuum_history ADD COLUMN database_name text, ADD COLUMN schema_name text, "
        "ADD COLUMN table_name text, DROP COLUMN vacuum_type, ADD COLUMN vacuum_type text GENERATED ALWAYS AS ("
        "CASE WHEN status ILIKE '%finished%' THEN NULL "
        "WHEN status ILIKE '%delete only%' THEN 'DELETE ONLY' "
        "WHEN status ILIKE '%sort only%' THEN 'SORT ONLY' "
        "WHEN status ILIKE '%reindex%' THEN 'REINDEX' "
        "WHEN status ILIKE '%ranged part%' THEN 'RANGED PARTITION' "
        "WHEN status ILIKE '%recluster%' THEN 'RECLUSTER' "
        "WHEN status ILIKE '%started%' THEN 'FULL' END) STORED"
    )
