"""quper.table_stats: size, sort order, skew and statistics of each table, from svv_table_info."""

from sqlalchemy import BigInteger, Column, Integer, Numeric, Text, TextClause, text

from qupersync_assets.spec import (
    UTC_TIME,
    SyncSpec,
    column,
    daily_history,
    filled_after_load,
    generated_column,
    quper_table,
)

TABLE = quper_table(
    "table_stats",
    column("database", Text, "database of the table"),
    column("schema", Text, "schema of the table"),
    column("table_id", BigInteger, "table OID; a table that is created again gets a new one", sql='"table_id"::bigint'),
    column("table_name", Text, "name of the table", "table"),
    column("encoded", Text, "whether columns are compressed (Y, N or an AUTO form)"),
    column("diststyle", Text, "EVEN, KEY(column), ALL, or an AUTO form"),
    column("sort_key1", Text, "first column of the sort key, or AUTO(SORTKEY)", "sortkey1"),
    column("max_varchar", Integer, "size of the widest varchar column, in bytes"),
    column("sortkey1_enc", Text, "compression of the first sort key column", padded=True),
    column("sortkey_num", Integer, "number of columns in the sort key"),
    column("size_mb", BigInteger, "size in MB (blocks of 1 MB)", "size"),
    column("pct_used", Numeric(10, 4), "percent of the available space that the table uses"),
    column("unsorted_pct", Numeric(5, 2), "percent of rows out of sort order; NULL without a sort key", "unsorted"),
    column("stats_off_pct", Numeric(5, 2), "age of the statistics: 0 current, 100 stale", "stats_off"),
    column("tbl_rows", Numeric(38, 0), "rows, including those marked for deletion and not yet vacuumed"),
    column("skew_sortkey1", Numeric(19, 2), "size of the largest column / size of the first sort key column"),
    column("skew_rows", Numeric(19, 2), "rows of the fullest slice / rows of the emptiest; NULL for ALL"),
    column("estimated_visible_rows", Numeric(38, 0), "estimated rows, without those marked for deletion"),
    column("risk_event", Text, "type|xid|time of a risky event; type 1: COPY with EXPLICIT_IDS"),
    column(
        "vacuum_sort_benefit_pct",
        Numeric(12, 2),
        "maximum expected gain of a vacuum sort, in percent",
        "vacuum_sort_benefit",
    ),
    column("create_time", UTC_TIME, "time of the creation of the table (UTC)"),
    generated_column(
        "pct_rows_marked_for_deletion",
        Numeric(5, 2),
        "percent of tbl_rows that the next vacuum can remove",
        "CASE WHEN tbl_rows > 0 THEN "
        "round(100 * least(greatest(tbl_rows - estimated_visible_rows, 0), tbl_rows) / tbl_rows, 2) END",
        of=("tbl_rows", "estimated_visible_rows"),
    ),
    filled_after_load(
        "last_vacuum_date",
        UTC_TIME,
        "end of the last known vacuum of the table (UTC), from quper.vacuum_history",
        reads=("stl_vacuum.eventtime",),
    ),
    filled_after_load(
        "vacuum_type",
        Text,
        "kind of that vacuum: FULL, DELETE ONLY, SORT ONLY, REINDEX, RECLUSTER or RANGED PARTITION",
        reads=("stl_vacuum.status",),
    ),
    key=("database", "table_id"),
    comment="Tables and materialized views that hold rows, as svv_table_info shows them.",
    indexes=[("schema", "table_name"), ("table_id",)],
    shared_indexes=[("size_mb",)],
)


def link_last_vacuum(tables: str) -> TextClause:
    """Return the statement that fills `last_vacuum_date` and `vacuum_type` of the rows `t` that meet a condition.

    Rows are locked in the order of their keys, so that the two jobs that run such statements cannot deadlock.
    """
    return text(
        f"""
    WITH changed AS (
        SELECT t.database, t.table_id, f.eventtime, s.vacuum_type
        FROM quper.table_stats AS t
        CROSS JOIN LATERAL (
            SELECT v.xid, v.eventtime FROM quper.vacuum_history AS v
            WHERE v.cluster = t.cluster AND v.table_id = t.table_id AND v.outcome = 'finished'
              AND coalesce(v.database_name, t.database) = t.database
            ORDER BY v.eventtime DESC LIMIT 1
        ) AS f
        LEFT JOIN LATERAL (
            SELECT v.vacuum_type FROM quper.vacuum_history AS v
            WHERE v.cluster = t.cluster AND v.xid = f.xid AND v.table_id = t.table_id
              AND v.outcome = 'started' AND v.eventtime <= f.eventtime
            ORDER BY v.eventtime DESC LIMIT 1
        ) AS s ON true
        WHERE t.cluster = :cluster AND {tables}
          AND (t.last_vacuum_date, t.vacuum_type) IS DISTINCT FROM (f.eventtime, s.vacuum_type)
        ORDER BY t.database, t.table_id FOR UPDATE OF t
    )
    UPDATE quper.table_stats AS t SET last_vacuum_date = c.eventtime, vacuum_type = c.vacuum_type
    FROM changed AS c WHERE t.cluster = :cluster AND t.database = c.database AND t.table_id = c.table_id
    """
    )


# The later load of the two, of tables and of vacuums, finds what the other one has committed.
OF_WRITTEN_TABLES = link_last_vacuum("(CAST(:written_since AS timestamptz) IS NULL OR t.synced_at >= :written_since)")
OF_WRITTEN_VACUUMS = link_last_vacuum("""t.table_id IN (
    SELECT table_id FROM quper.vacuum_history
    WHERE cluster = :cluster AND (CAST(:read_since AS timestamptz) IS NULL OR eventtime >= :read_since)
)""")

# The last scans of a day arrive after its last load, so yesterday is summed again.
SCANS = """
SELECT table_id, (scan_hour AT TIME ZONE 'UTC')::date AS day, sum(scans)::bigint AS scans
FROM quper.table_scan_stats
WHERE cluster = :cluster AND scan_hour >= CAST(:day AS date) - 1 AND scan_hour < CAST(:day AS date) + 1
  AND table_id IN (
      SELECT table_id FROM quper.table_scan_stats
      WHERE cluster = :cluster AND scan_hour >= CAST(:day AS date) - 1 AND scan_hour < CAST(:day AS date) + 1
        AND (CAST(:since AS timestamptz) IS NULL OR synced_at >= :since)
  )
GROUP BY 1, 2"""

DAILY = daily_history(
    TABLE,
    key=("table_id", "database"),
    kept=(
        "schema",
        "table_name",
        "size_mb",
        "tbl_rows",
        "unsorted_pct",
        "stats_off_pct",
        "pct_rows_marked_for_deletion",
        "skew_rows",
    ),
    sums=[Column("scans", BigInteger, nullable=False, server_default="0", comment="scans of that day, by table_id")],
    sums_query=SCANS,
)

SPEC = SyncSpec(
    sync_job_id="table_stats_sync",
    table=TABLE,
    kind="snapshot",
    description="Size, rows, sort order, skew, statistics and last vacuum of each table.",
    sources=("svv_table_info",),
    from_clause="FROM svv_table_info",
    after_load=OF_WRITTEN_TABLES,
    # The view omits tables without rows; a table that was emptied still has its columns in column_stats.
    present_where="""EXISTS (SELECT FROM quper.column_stats c WHERE c.cluster = t.cluster
        AND c.table_catalog = t.database AND c.table_id = t.table_id AND c.removed_at IS NULL)""",
    daily=DAILY,
    database_column="database",
)
