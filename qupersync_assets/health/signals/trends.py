"""Signals that need a history: growth, forecasts, slower statements, new failures. AWS's review does not have them."""

from qupersync_assets.health.signal import Group, Severity, Signal

_DG = "https://docs.aws.amazon.com/redshift/latest/dg/"
_MGMT = "https://docs.aws.amazon.com/redshift/latest/mgmt/"
_TODAY = "(:now AT TIME ZONE 'UTC')::date"

# Growth in seven days beside that of the four weeks before; a table needs two weeks of history. Rows of tables that
# changed within the week were written within it.
_GROWTH = f"""(
    SELECT n.*, n.size_mb - w.size_mb AS growth_mb,
        (w.size_mb - f.size_mb)::numeric / greatest(({_TODAY} - 7 - f.day) / 7.0, 1) AS usual_mb
    FROM (
        SELECT table_id, database, schema, table_name, size_mb,
            concat_ws('.', database, schema, table_name) AS object
        FROM quper.table_stats
        WHERE cluster = :cluster AND removed_at IS NULL AND size_mb >= 1000 AND schema NOT LIKE 'pg\\_%'
            AND synced_at >= :now - interval '8 days'
    ) AS n
    CROSS JOIN LATERAL (
        SELECT size_mb FROM quper.table_stats_daily AS d
        WHERE d.cluster = :cluster AND d.table_id = n.table_id AND d.database = n.database AND d.day <= {_TODAY} - 7
        ORDER BY day DESC LIMIT 1
    ) AS w
    CROSS JOIN LATERAL (
        SELECT size_mb, greatest(day, {_TODAY} - 35) AS day FROM quper.table_stats_daily AS d
        WHERE d.cluster = :cluster AND d.table_id = n.table_id AND d.database = n.database AND d.day <= {_TODAY} - 14
        ORDER BY d.day <= {_TODAY} - 35 DESC, CASE WHEN d.day <= {_TODAY} - 35 THEN d.day END DESC, d.day LIMIT 1
    ) AS f
    WHERE n.size_mb - w.size_mb >= 1000 AND n.size_mb - w.size_mb > 0.1 * w.size_mb
) AS g"""

# The line through the used space of each day of thirty.
_FULL = f"""(
    SELECT node, used_mb, round(slope::numeric, 1) AS mb_per_day,
        ceil((capacity_mb - used_mb) / nullif(slope, 0)) AS days_left
    FROM (
        SELECT node, max(d.capacity_mb) AS capacity_mb, regr_slope(d.used_mb, d.day - {_TODAY}) AS slope,
            count(*) AS days, max(n.used_mb) AS used_mb
        FROM quper.node_details_by_day AS d
        JOIN quper.node_details AS n USING (cluster, node)
        WHERE cluster = :cluster AND n.removed_at IS NULL AND d.day > {_TODAY} - 30
        GROUP BY node
    ) AS line
    WHERE slope > 0 AND days >= 7
) AS f"""

# The mean execution time of this week beside that of the week before.
_WEEKS = f"""(
    SELECT pattern, this.queries, this.query_id, round(this.mean_us / nullif(before.mean_us, 0), 2) AS ratio,
        round(before.mean_us / 1e6, 2) AS before_s, round(this.mean_us / 1e6, 2) AS now_s,
        (this.mean_us - before.mean_us) * this.queries / 1e6 AS more_s
    FROM (
        SELECT pattern, sum(queries) AS queries, sum(execution_us)::numeric / sum(queries) AS mean_us,
            (max(ARRAY[max_execution_us, longest_query_id]))[2] AS query_id
        FROM quper.health_pattern_days WHERE cluster = :cluster AND day > {_TODAY} - 7
        GROUP BY pattern HAVING sum(queries) >= 10
    ) AS this
    JOIN (
        SELECT pattern, sum(execution_us)::numeric / sum(queries) AS mean_us
        FROM quper.health_pattern_days
        WHERE cluster = :cluster AND day > {_TODAY} - 14 AND day <= {_TODAY} - 7
        GROUP BY pattern HAVING sum(queries) >= 10
    ) AS before USING (pattern)
) AS w
LEFT JOIN quper.query_history AS q ON q.cluster = :cluster AND q.query_id = w.query_id"""
_TEXT = "left(regexp_replace(q.query_text, '\\s+', ' ', 'g'), 200)"

# Vacuums that failed, or began and did not end, after the last one that finished; the newest may still run.
_VACUUMS = """(
    SELECT table_id, count(*) AS failures, max(status) AS status, max(t.database) AS database,
        max(t.size_mb) AS size_mb, concat_ws('.', max(t.database), max(t.schema), max(t.table_name)) AS object,
        quote_ident(max(t.schema)) || '.' || quote_ident(max(t.table_name)) AS target
    FROM (
        SELECT v.table_id, v.xid, max(v.status) FILTER (WHERE v.outcome = 'failed') AS status,
            max(v.eventtime) AS at, max(v.database_name) AS database,
            bool_or(v.outcome = 'failed') AS failed, bool_or(v.outcome = 'finished') AS finished,
            max(max(v.eventtime) FILTER (WHERE v.outcome = 'finished')) OVER tables AS last_finished,
            row_number() OVER (tables ORDER BY max(v.eventtime) DESC) AS place
        FROM quper.vacuum_history AS v
        WHERE v.cluster = :cluster AND v.eventtime >= :now - interval '7 days' AND v.outcome <> 'skipped'
        GROUP BY v.table_id, v.xid WINDOW tables AS (PARTITION BY v.table_id)
    ) AS v
    JOIN quper.table_stats AS t USING (table_id)
    WHERE t.cluster = :cluster AND t.removed_at IS NULL AND t.database = coalesce(v.database, t.database)
        AND NOT finished AND (failed OR place > 1) AND (last_finished IS NULL OR at > last_finished)
    GROUP BY table_id
) AS v"""

_USERS = """(
    SELECT user_name, max(last_at) AS last_at FROM (
        SELECT user_name, last_seen AS last_at FROM quper.applications WHERE cluster = :cluster
        UNION ALL
        SELECT user_name, hour FROM quper.health_query_hours WHERE cluster = :cluster
    ) AS seen
    WHERE user_name <> '' GROUP BY user_name
) AS u"""

# Patterns whose first failure is of this week, and not of the first two days that are known at all.
_FAILING = f"""(
    SELECT p.pattern, p.failures, p.query_id, p.queries, q.error_message, q.query_text, q.database_name
    FROM (
        SELECT pattern, sum(failed) AS failures, sum(queries) AS queries, max(last_failed_query_id) AS query_id,
            min(day) AS first_day
        FROM quper.health_pattern_days WHERE cluster = :cluster AND failed > 0 GROUP BY pattern
    ) AS p
    LEFT JOIN quper.query_history AS q ON q.cluster = :cluster AND q.query_id = p.query_id
    WHERE first_day > {_TODAY} - 7
        AND first_day > (SELECT min(day) + 1 FROM quper.health_pattern_days WHERE cluster = :cluster)
) AS p"""


def _columns(*same: str, **others: str) -> dict[str, str]:
    return {name: name for name in same} | others


GROUP = Group(
    "Trends",
    (
        Signal(
            "disk_full_soon",
            "The storage of a node will soon be full",
            Severity.CRITICAL,
            ("node_details_sync",),
            _FULL,
            "days_left <= :threshold",
            _columns(
                object="'node ' || node",
                value="greatest(days_left, 0)",
                size_mb="used_mb",
                note="'grows by ' || mb_per_day || ' MB a day'",
            ),
            threshold=30,
            unit="days",
            remedy="Add nodes with an elastic resize, or drop what grows: see the signal unusual_growth.",
            url=_MGMT + "managing-cluster-operations.html",
        ),
        Signal(
            "unusual_growth",
            "Table grows faster than usual",
            Severity.WARNING,
            ("table_stats_sync",),
            _GROWTH,
            "growth_mb > :threshold * greatest(usual_mb, 0)",
            _columns(
                *("object", "size_mb", "database", "table_id"),
                target="table_id",
                value="growth_mb",
                note="'usual: ' || round(usual_mb, 0) || ' MB a week'",
            ),
            threshold=3,
            unit="MB in seven days",
            threshold_unit="x the usual growth",
            remedy="SELECT day, size_mb FROM quper.table_stats_by_day WHERE table_id = {target} ORDER BY day;",
            url=_DG + "r_SVV_TABLE_INFO.html",
        ),
        Signal(
            "statement_slower",
            "Statement is slower than in the week before",
            Severity.WARNING,
            ("query_history_sync",),
            _WEEKS,
            "ratio >= :threshold AND more_s >= 60",
            _columns(
                "pattern",
                object="'statement ' || pattern",
                value="ratio",
                times="queries",
                query_id="w.query_id",
                database="q.database_name",
                note=f"concat_ws(': ', 'mean ' || before_s || ' s, now ' || now_s || ' s', {_TEXT})",
            ),
            threshold=1.5,
            unit="x",
            times_are="runs in seven days",
            remedy="Compare its plan, its tables and its queue with those of the week before.",
            url=_DG + "c-optimizing-query-performance.html",
        ),
        Signal(
            "vacuum_fails",
            "Vacuum of a table fails again and again",
            Severity.WARNING,
            ("vacuum_history_sync", "table_stats_sync"),
            _VACUUMS,
            "failures >= :threshold",
            _columns(
                *("object", "size_mb", "target", "database", "table_id"),
                value="failures",
                times="failures",
                note="status",
            ),
            threshold=3,
            unit="failures in seven days",
            times_are="failures in seven days",
            remedy="VACUUM {target}; -- when nothing else writes to the table",
            url=_DG + "r_VACUUM_command.html",
        ),
        Signal(
            "user_without_queries",
            "User has not connected for a long time",
            Severity.INFO,
            ("application_sync",),
            _USERS,
            "last_at < :now - :threshold * interval '1 day'",
            _columns(
                object="'user ' || user_name",
                value="floor(extract(epoch FROM :now - last_at) / 86400)",
                target="quote_ident(user_name)",
                note="'last seen ' || last_at::date",
            ),
            threshold=30,
            unit="days",
            remedy="ALTER USER {target} PASSWORD DISABLE; -- or DROP USER",
            url=_DG + "r_ALTER_USER.html",
        ),
        Signal(
            "new_failing_statement",
            "Statement fails that did not fail before",
            Severity.WARNING,
            ("query_history_sync",),
            _FAILING,
            "failures >= :threshold",
            _columns(
                *("pattern", "query_id"),
                object="'statement ' || pattern",
                value="failures",
                times="failures",
                database="database_name",
                note="left(regexp_replace(error_message, '\\s+', ' ', 'g'), 200)",
            ),
            threshold=3,
            unit="failures in seven days",
            times_are="failures in seven days",
            remedy="SELECT start_time, user_name, error_message, query_text FROM quper.query_history "
            "WHERE status = 'failed' ORDER BY start_time DESC LIMIT 50;",
            url=_DG + "SYS_QUERY_HISTORY.html",
        ),
    ),
)
