"""The fifty statements with the longest runs in seven days and the rest of the first day (UTC)."""

from qupersync_assets.health.signal import Group, Severity, Signal

# As in AWS's review: one run per statement, longer than a second, without DDL and queries of the leader node alone.
_LONGEST = """
SELECT t.*, m.spilled_mb, m.nested_loop_rows, m.broadcast_rows, m.distributed_rows, m.unsorted_rows,
    a.alerts, q.database_name,
    coalesce(quote_ident(b.schema) || '.' || quote_ident(b.table_name), a.table_name, m.largest_table_name) AS target,
    left(regexp_replace(q.query_text, '\\s+', ' ', 'g'), 200) AS query_text
FROM (
    SELECT pattern, max(max_execution_us) AS execution_us, sum(queries) AS queries,
        (max(ARRAY[max_execution_us, longest_query_id]))[2] AS query_id
    FROM quper.health_pattern_days
    WHERE cluster = :cluster AND day >= (:now AT TIME ZONE 'UTC')::date - 7 AND query_type <> 'DDL'
        AND (service_class_id >= 5 OR service_class_id = -1)
    GROUP BY pattern HAVING max(max_execution_us) > 1000000 ORDER BY execution_us DESC LIMIT 50
) AS t
LEFT JOIN quper.query_history AS q ON q.cluster = :cluster AND q.query_id = t.query_id
LEFT JOIN quper.query_metrics AS m ON m.cluster = :cluster AND m.query_id = t.query_id
LEFT JOIN LATERAL (
    SELECT string_agg(DISTINCT event, '; ') AS alerts, min(table_id) AS table_id,
        (array_agg(table_name ORDER BY table_id))[1] AS table_name
    FROM quper.alert_events AS e WHERE e.cluster = :cluster AND e.query_id = t.query_id
) AS a ON true
LEFT JOIN quper.table_stats AS b ON b.cluster = :cluster AND b.database = q.database_name
    AND b.table_id = coalesce(a.table_id, m.largest_table_id)"""
_DG = "https://docs.aws.amazon.com/redshift/latest/dg/"
_TUNING = "query-performance-improvement-opportunities.html"
# Rows of a step that AWS counts as large.
_MANY = 5_000_000


def _signal(
    id_: str,
    title: str,
    where: str,
    remedy: str,
    page: str = _TUNING,
    *,
    jobs: tuple[str, ...] = (),
    spill: bool = False,
) -> Signal:
    columns = {
        "object": "'statement ' || pattern",
        "value": "spilled_mb" if spill else "round(execution_us / 1e6, 1)",
        "times": "queries",
        "target": "target",
        "note": "concat_ws(': ', alerts, query_text)",
        "database": "database_name",
        "query_id": "query_id",
        "pattern": "pattern",
    }
    return Signal(
        id_,
        title,
        Severity.WARNING,
        ("query_history_sync", *(jobs or ("alert_events_sync",))),
        "health_longest",
        where,
        columns,
        1_000_000 if spill else None,
        "MB" if spill else "s",
        "runs in seven days",
        remedy,
        _DG + page,
    )


GROUP = Group(
    "The longest statements",
    prepared={"health_longest": _LONGEST},
    signals=(
        _signal(
            "long_query_missing_statistics",
            "Long statement reads a table without statistics",
            "alerts ILIKE '%statistics%'",
            "ANALYZE {target};",
            "t_Analyzing_tables.html",
        ),
        _signal(
            "long_query_nested_loop",
            "Long statement joins with a nested loop",
            f"alerts ILIKE '%nested loop%' OR nested_loop_rows > {_MANY}",
            "Add a join condition, so that the statement has no cross join.",
            jobs=("alert_events_sync", "query_metrics_sync"),
        ),
        _signal(
            "long_query_distribution",
            "Long statement moves many rows between nodes",
            f"alerts ILIKE ANY (ARRAY['%dist%', '%broadcast%']) OR broadcast_rows > {_MANY} "
            f"OR distributed_rows > {_MANY}",
            "Distribute the joined tables by the columns of the join: ALTER TABLE {target} ALTER DISTKEY COLUMN;",
            jobs=("alert_events_sync", "query_metrics_sync"),
        ),
        _signal(
            "long_query_sort",
            "Long statement reads rows that a sort key could skip",
            f"alerts ILIKE ANY (ARRAY['%sort%', '%selective query filter%']) OR unsorted_rows > {_MANY}",
            "ALTER TABLE {target} ALTER SORTKEY (COLUMN); -- the column that it filters by",
            jobs=("alert_events_sync", "query_metrics_sync"),
        ),
        _signal(
            "long_query_spill",
            "Long statement spills much to disk",
            "spilled_mb > :threshold",
            "Select fewer columns and rows, update statistics, or give its queue more memory.",
            jobs=("query_metrics_sync",),
            spill=True,
        ),
    ),
)
