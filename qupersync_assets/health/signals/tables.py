"""Design, maintenance and use of tables."""

from qupersync_assets.health.signal import Group, Severity, Signal

# Tables of users, with what the columns of large tables and scans say; as in AWS's review, without schemas of Redshift.
_TABLES = """
SELECT t.database, t.schema, t.table_name, t.table_id, t.tbl_rows, t.size_mb, t.diststyle, t.sort_key1, t.sortkey1_enc,
    t.skew_rows, t.vacuum_sort_benefit_pct, t.pct_rows_marked_for_deletion, t.stats_off_pct, t.create_time,
    t.tbl_rows > :large_rows AS is_large, c.columns, c.encoded, c.distkey_type, coalesce(s.scans, 0) AS scans
FROM quper.table_stats AS t
LEFT JOIN LATERAL (
    SELECT nullif(count(*), 0) AS columns, count(*) FILTER (WHERE encoding <> 'none') AS encoded,
        min(data_type COLLATE "C") FILTER (WHERE distkey) AS distkey_type
    FROM quper.column_stats AS l
    WHERE t.tbl_rows > :large_rows AND l.cluster = :cluster AND l.table_catalog = t.database
        AND l.table_id = t.table_id AND l.removed_at IS NULL
) AS c ON true
LEFT JOIN (
    SELECT table_id, sum(scans) AS scans FROM quper.table_scan_stats
    WHERE cluster = :cluster AND scan_hour >= :now - interval '7 days' GROUP BY table_id
) AS s ON s.table_id = t.table_id
WHERE t.cluster = :cluster AND t.removed_at IS NULL AND t.schema NOT LIKE 'pg\\_%' AND t.schema <> 'information_schema'
    AND t.database <> 'sample_data_dev'"""

# Scans must be known for that long: else a table may have been scanned before.
_IS_UNUSED = """
    (scans = 0 OR :threshold < 7) AND coalesce(create_time < :now - :threshold * interval '1 day', true) AND EXISTS (
        SELECT FROM quper.table_scan_stats AS s
        WHERE s.cluster = :cluster AND s.scan_hour <= :now - :threshold * interval '1 day'
    ) AND NOT EXISTS (
        SELECT FROM quper.table_scan_stats AS s
        WHERE s.cluster = :cluster AND s.table_id = h.table_id AND s.scan_hour > :now - :threshold * interval '1 day'
    )"""

_DG = "https://docs.aws.amazon.com/redshift/latest/dg/"
_TABLE_STATS, _COLUMN_STATS = "table_stats_sync", "column_stats_sync"


def _signal(
    id_: str,
    title: str,
    where: str,
    value: str,
    remedy: str,
    page: str,
    *,
    severity: Severity = Severity.WARNING,
    unit: str = "rows",
    threshold: float | None = None,
    threshold_unit: str = "",
    jobs: tuple[str, ...] = (_TABLE_STATS,),
    note: str = "NULL",
) -> Signal:
    same = {name: name for name in ("size_mb", "database", "table_id")} | {
        "object": "concat_ws('.', database, schema, table_name)",
        "target": "quote_ident(schema) || '.' || quote_ident(table_name)",
    }
    return Signal(
        id_,
        title,
        severity,
        jobs,
        source="health_tables AS h",
        where=where,
        columns={**same, "value": value, "times": "scans", "note": note},
        threshold=threshold,
        unit=unit,
        threshold_unit=threshold_unit,
        times_are="scans in seven days",
        remedy=remedy,
        url=_DG + page,
    )


_SORT_KEYS = "c_best-practices-sort-key.html"
_DISTRIBUTION = "c_best-practices-best-dist-key.html"
_COMPRESSION = "t_Compressing_data_on_disk.html"
_HAS_DATE_KEY = """
    is_large AND diststyle NOT LIKE 'AUTO%' AND diststyle LIKE '%KEY%'
    AND (distkey_type ~ '^(date|time)' OR diststyle ~ 'KEY.*(date|dt|timestamp)')"""

GROUP = Group(
    "Design, maintenance and use of tables",
    prepared={"health_tables": _TABLES},
    signals=(
        _signal(
            "large_table_without_sort_key",
            "Large table without a sort key",
            "is_large AND sort_key1 IS NULL",
            "tbl_rows",
            "ALTER TABLE {target} ALTER SORTKEY AUTO; -- or (COLUMN), the column that most queries filter by",
            _SORT_KEYS,
        ),
        _signal(
            "large_table_with_skew",
            "Rows of a large table are distributed unevenly",
            "is_large AND skew_rows >= :threshold AND diststyle NOT LIKE 'AUTO%'",
            "skew_rows",
            "ALTER TABLE {target} ALTER DISTSTYLE AUTO; -- or KEY DISTKEY COLUMN, with many values and few NULLs",
            _DISTRIBUTION,
            unit="x",
            threshold=4,
            note="diststyle",
        ),
        _signal(
            "large_table_unsorted",
            "Large table whose queries would gain from sorting",
            "is_large AND vacuum_sort_benefit_pct >= :threshold",
            "vacuum_sort_benefit_pct",
            "VACUUM RECLUSTER {target};",
            "r_VACUUM_command.html",
            unit="%",
            threshold=10,
        ),
        _signal(
            "interleaved_sort_key",
            "Large table with an interleaved sort key",
            "is_large AND sort_key1 LIKE '%INTERLEAVED%'",
            "tbl_rows",
            "ALTER TABLE {target} ALTER SORTKEY AUTO;",
            _SORT_KEYS,
            severity=Severity.INFO,
        ),
        _signal(
            "small_table_not_all",
            "Small table that is not distributed to all nodes",
            "NOT is_large AND diststyle NOT LIKE 'AUTO%' AND diststyle NOT LIKE '%ALL%'",
            "tbl_rows",
            "ALTER TABLE {target} ALTER DISTSTYLE AUTO;",
            _DISTRIBUTION,
            severity=Severity.INFO,
            note="diststyle",
        ),
        _signal(
            "small_table_with_sort_key",
            "Small table with a manual sort key",
            "NOT is_large AND sort_key1 <> '' AND sort_key1 NOT LIKE 'AUTO(SORTKEY%'",
            "tbl_rows",
            "ALTER TABLE {target} ALTER SORTKEY AUTO;",
            _SORT_KEYS,
            severity=Severity.INFO,
            note="sort_key1",
        ),
        _signal(
            "large_table_needs_vacuum_delete",
            "Large table with many rows marked for deletion",
            "is_large AND pct_rows_marked_for_deletion > :threshold",
            "pct_rows_marked_for_deletion",
            "VACUUM DELETE ONLY {target};",
            "t_Reclaiming_storage_space202.html",
            unit="%",
            threshold=10,
        ),
        _signal(
            "statistics_out_of_date",
            "Table whose statistics are out of date",
            "stats_off_pct > :threshold",
            "stats_off_pct",
            "ANALYZE {target};",
            "t_Analyzing_tables.html",
            unit="%",
            threshold=10,
        ),
        _signal(
            "encoded_sort_key",
            "Large table whose first sort key column is compressed",
            "is_large AND sort_key1 NOT LIKE 'AUTO(SORTKEY%' AND sortkey1_enc NOT IN ('none', '')",
            "tbl_rows",
            "ALTER TABLE {target} ALTER ENCODE AUTO;",
            _COMPRESSION,
            severity=Severity.INFO,
            note="sort_key1 || ' has encoding ' || sortkey1_enc",
        ),
        _signal(
            "low_compression",
            "Large table with few compressed columns",
            # The first column of the sort key should not be compressed. AWS rounds the share to whole percents.
            "is_large AND round(100.0 * encoded / columns) < :threshold AND columns - encoded > "
            "CASE WHEN sortkey1_enc IN ('none', '') THEN 1 ELSE 0 END",
            "round(100.0 * encoded / columns)",
            "ALTER TABLE {target} ALTER ENCODE AUTO;",
            _COMPRESSION,
            unit="%",
            threshold=80,
            jobs=(_TABLE_STATS, _COLUMN_STATS),
            note="encoded || ' of ' || columns || ' columns are compressed'",
        ),
        _signal(
            "distributed_by_date",
            "Large table distributed by a date",
            _HAS_DATE_KEY,
            "tbl_rows",
            "ALTER TABLE {target} ALTER DISTSTYLE AUTO;",
            _DISTRIBUTION,
            jobs=(_TABLE_STATS, _COLUMN_STATS),
            note="concat_ws(', a ', diststyle, distkey_type)",
        ),
        _signal(
            "unused_table",
            "Table that no query has read for a long time",
            _IS_UNUSED,
            "size_mb",
            "DROP TABLE {target}; -- after an UNLOAD, if it may be needed again",
            "r_UNLOAD.html",
            severity=Severity.INFO,
            unit="MB",
            threshold=30,
            threshold_unit="days",
            jobs=(_TABLE_STATS, "scan_stats_sync"),
            note="'created ' || create_time::date",
        ),
    ),
)
