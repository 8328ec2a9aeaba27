"""Recommendations of Redshift for tables that it did not apply by itself."""

from qupersync_assets.health.signal import Group, Severity, Signal

_DG = "https://docs.aws.amazon.com/redshift/latest/dg/"
# Tables by OID; AWS's review leaves tables out that svv_table_info does not show.
_TABLE = """
JOIN quper.table_stats AS t ON t.cluster = r.cluster AND t.table_id = r.table_id AND t.removed_at IS NULL"""
_OBJECT = "concat_ws('.', t.database, t.schema, t.table_name)"


def _recommended(id_: str, type_: str, what: str, page: str) -> Signal:
    source = f"""(
    SELECT {_OBJECT} AS object, count(*) AS recommendations, string_agg(r.ddl, ' ' ORDER BY r.ddl) AS ddl,
        max(t.size_mb) AS size_mb, max(t.database) AS database, max(t.table_id) AS table_id
    FROM quper.table_recommendations AS r {_TABLE} AND t.database = r.database
    WHERE r.cluster = :cluster AND r.removed_at IS NULL AND r.type = '{type_}' AND NOT r.auto_eligible GROUP BY 1
) AS q"""
    columns = {name: name for name in ("object", "size_mb", "database", "table_id")}
    return Signal(
        id_,
        f"Advisor recommends another {what}, which Redshift does not apply by itself",
        Severity.WARNING,
        ("table_recommendations_sync", "table_stats_sync"),
        source,
        columns={**columns, "value": "recommendations", "target": "ddl"},
        unit="recommendations",
        remedy="{target}",
        url=_DG + page,
    )


def _aborted(id_: str, type_: str, what: str, remedy: str) -> Signal:
    source = f"""(
    SELECT {_OBJECT} AS object, quote_ident(t.schema) || '.' || quote_ident(t.table_name) AS target, r.status,
        t.size_mb, t.database, t.table_id, r.attempts
    FROM (
        SELECT DISTINCT ON (table_id) cluster, table_id, rtrim(status) AS status,
            count(*) OVER (PARTITION BY table_id) AS attempts
        FROM quper.auto_table_optimizations WHERE cluster = :cluster AND alter_table_type = '{type_}'
        ORDER BY table_id, event_time DESC
    ) AS r {_TABLE}
    WHERE r.status NOT IN ('Complete: 100%', 'Abort:This table is already the recommended style.')
) AS q"""
    columns = {name: name for name in ("object", "size_mb", "database", "table_id", "target")}
    return Signal(
        id_,
        f"Automatic change of the {what} was not completed",
        Severity.INFO,
        ("auto_table_optimizations_sync", "table_stats_sync"),
        source,
        columns={**columns, "value": "attempts", "note": "status"},
        unit="steps",
        remedy=remedy,
        url=_DG + "t_Creating_tables.html",
    )


GROUP = Group(
    "Recommendations of Redshift",
    (
        _recommended("recommended_encoding", "encode", "compression", "t_Compressing_data_on_disk.html"),
        _recommended("recommended_sort_key", "sortkey", "sort key", "c_best-practices-sort-key.html"),
        _recommended("recommended_distribution", "diststyle", "distribution", "c_best-practices-best-dist-key.html"),
        _aborted("aborted_encoding", "encode", "compression", "ALTER TABLE {target} ALTER ENCODE AUTO;"),
        _aborted("aborted_sort_key", "sortkey", "sort key", "ALTER TABLE {target} ALTER SORTKEY AUTO;"),
        _aborted("aborted_distribution", "distkey", "distribution", "ALTER TABLE {target} ALTER DISTSTYLE AUTO;"),
    ),
)
