"""The views of quper for readers of findings; one row per finding or group."""

from qupersync_assets.postgres.health_tables import PRIORITY, SEVERITY_RANK
from qupersync_assets.spec import CLUSTER_COMMENT, View

_FINDINGS = f"""
SELECT f.cluster, s.group_id, f.signal_id, f.severity,
    {SEVERITY_RANK.format(f="f")} AS severity_rank, {PRIORITY.format(f="f")} AS priority,
    s.title, f.object, f.value_now AS value, s.unit, s.threshold, f.value_first, f.size_mb, f.times, s.times_are,
    f.opened_at AS since, f.first_seen,
    coalesce(f.last_seen, s.last_evaluated_at, e.evaluated_at) AS last_seen, f.resolved_at, f.episodes,
    replace(s.remedy, '{{target}}', coalesce(f.target, f.object)) AS remedy, f.note, s.documentation, f.database,
    f.table_id, f.query_id, f.pattern, s.status AS signal_status, s.reason AS signal_reason
FROM quper.health_findings AS f
LEFT JOIN quper.health_signals AS s ON s.cluster = f.cluster AND s.signal_id = f.signal_id
LEFT JOIN quper.health_evaluations AS e ON e.cluster = f.cluster"""

_COLUMNS = {
    "cluster": CLUSTER_COMMENT,
    "group_id": "group of the signal: tables, nodes, usage ...",
    "signal_id": "the signal",
    "severity": "critical, warning or info",
    "severity_rank": "1 critical, 2 warning, 3 info",
    "priority": "what to fix first among findings of one severity: ln(1 + size_mb) + ln(1 + times)",
    "title": "what is wrong",
    "object": "the table, node, queue, statement pattern ...",
    "value": "measured value",
    "unit": "unit of the values",
    "threshold": "limit of the value; NULL: the signal has no threshold",
    "value_first": "measured value when the finding was opened",
    "size_mb": "size of the object in MB",
    "times": "occurrences in seven days",
    "times_are": "what `times` counts",
    "since": "first evaluation that found it, or that found it again after it was resolved (UTC)",
    "first_seen": "first evaluation that found it at all (UTC)",
    "last_seen": "last evaluation that found it (UTC)",
    "resolved_at": "first evaluation without it (UTC); NULL: the finding is open",
    "episodes": "how often the finding was opened: 1, plus 1 for each return",
    "remedy": "statement or setting that helps",
    "note": "a further fact",
    "documentation": "address of AWS's documentation",
    "database": "database of the object, if it is in one",
    "table_id": "OID of the table, if the finding is about one",
    "query_id": "a query that shows the finding",
    "pattern": "generic_query_hash of the statement, if the finding is about one",
    "signal_status": "status of the signal in the last evaluation: evaluated, stale, no data, off ...",
    "signal_reason": "why the signal was not evaluated",
}

# Shares of seven days; the price of the hours that the cluster existed in them is divided by execution time.
_SHARES = """
SELECT u.cluster, u.kind, u.name, u.queries, round(u.execution_us / 1e6, 1) AS execution_s,
    round(100.0 * u.execution_us / nullif(sum(u.execution_us) OVER whole, 0), 2) AS share_pct,
    round(e.price_per_hour * h.hours * u.execution_us / nullif(sum(u.execution_us) OVER whole, 0), 2) AS cost,
    u.query_id
FROM (
    SELECT cluster, k.kind, k.name, sum(queries) AS queries, sum(execution_us) AS execution_us, NULL::bigint AS query_id
    FROM quper.health_query_hours
    CROSS JOIN LATERAL (VALUES ('user', user_name), ('application', application_name)) AS k (kind, name)
    WHERE hour >= now() - interval '7 days' GROUP BY cluster, k.kind, k.name
    UNION ALL
    SELECT cluster, 'statement', pattern, sum(queries), sum(execution_us),
        (max(ARRAY[max_execution_us, longest_query_id]))[2]
    FROM quper.health_pattern_days WHERE day > (now() AT TIME ZONE 'UTC')::date - 7 GROUP BY cluster, pattern
) AS u
LEFT JOIN quper.health_evaluations AS e ON e.cluster = u.cluster
LEFT JOIN (
    SELECT cluster, least(ceil(extract(epoch FROM now() - min(hour)) / 3600), 168) AS hours
    FROM quper.health_query_hours WHERE hour >= now() - interval '7 days' GROUP BY cluster
) AS h ON h.cluster = u.cluster
WINDOW whole AS (PARTITION BY u.cluster, u.kind)"""

_STATEMENTS = """
SELECT p.cluster, p.pattern, p.query_type, p.queries, p.failed, round(p.execution_us / 1e6, 1) AS execution_s,
    round(p.execution_us / nullif(p.queries, 0) / 1e6, 3) AS mean_s, p.queries_before,
    round(p.before_us / 1e6, 1) AS execution_before_s,
    round(p.before_us / nullif(p.queries_before, 0) / 1e6, 3) AS mean_before_s, p.spilled_mb, p.query_id
FROM (
    SELECT cluster, pattern, max(query_type) AS query_type, sum(queries) FILTER (WHERE is_now) AS queries,
        sum(failed) FILTER (WHERE is_now) AS failed, sum(execution_us) FILTER (WHERE is_now) AS execution_us,
        sum(queries) FILTER (WHERE NOT is_now) AS queries_before,
        sum(execution_us) FILTER (WHERE NOT is_now) AS before_us, sum(spilled_mb) FILTER (WHERE is_now) AS spilled_mb,
        (max(ARRAY[max_execution_us, longest_query_id]))[2] AS query_id
    FROM (
        SELECT *, day > (now() AT TIME ZONE 'UTC')::date - 7 AS is_now FROM quper.health_pattern_days
        WHERE day > (now() AT TIME ZONE 'UTC')::date - 14
    ) AS days
    GROUP BY cluster, pattern
) AS p"""

HEALTH_VIEWS = (
    View(
        "health_cost",
        _SHARES,
        "Share of each user, application and statement pattern in the execution time of seven days.",
        {
            "cluster": CLUSTER_COMMENT,
            "kind": "user, application or statement",
            "name": "the user, the application, or the pattern of the statement; empty: unknown",
            "queries": "queries",
            "execution_s": "execution time, in seconds",
            "share_pct": "percent of the execution time of the whole kind",
            "cost": "that share of the price of the cluster; NULL without REDSHIFT_PRICE_PER_HOUR",
            "query_id": "longest query of a statement, as in quper.query_history",
        },
    ),
    View(
        "health_statements",
        _STATEMENTS,
        "Statement patterns of the last seven days, compared with the seven days before.",
        {
            "cluster": CLUSTER_COMMENT,
            "pattern": "generic_query_hash of the statement",
            "query_type": "SELECT, INSERT, COPY ...",
            "queries": "queries of the last seven days",
            "failed": "those that failed",
            "execution_s": "their execution time, in seconds",
            "mean_s": "mean execution time, in seconds",
            "queries_before": "queries of the seven days before",
            "execution_before_s": "their execution time, in seconds",
            "mean_before_s": "their mean execution time, in seconds",
            "spilled_mb": "MB that the queries of the last seven days spilled",
            "query_id": "longest query, as in quper.query_history",
        },
    ),
    View("health_history", _FINDINGS, "All findings about the health of clusters, open and resolved.", _COLUMNS),
    View(
        "health_open",
        f"{_FINDINGS} WHERE f.resolved_at IS NULL",
        "Open findings about the health of clusters; ORDER BY severity_rank, priority DESC says what to fix first.",
        _COLUMNS,
    ),
    View(
        "health_summary",
        """
SELECT s.cluster, s.group_id, min(s.position) AS position,
    count(*) AS signals, count(*) FILTER (WHERE s.status = 'evaluated') AS evaluated,
    coalesce(sum(f.critical), 0)::bigint AS critical, coalesce(sum(f.warning), 0)::bigint AS warning,
    coalesce(sum(f.info), 0)::bigint AS info, min(f.since) AS oldest, max(f.newest) AS newest
FROM quper.health_signals AS s
LEFT JOIN (
    SELECT cluster, signal_id, count(*) FILTER (WHERE severity = 'critical') AS critical,
        count(*) FILTER (WHERE severity = 'warning') AS warning, count(*) FILTER (WHERE severity = 'info') AS info,
        min(opened_at) AS since, max(opened_at) AS newest
    FROM quper.health_findings WHERE resolved_at IS NULL GROUP BY cluster, signal_id
) AS f ON f.cluster = s.cluster AND f.signal_id = s.signal_id
GROUP BY s.cluster, s.group_id""",
        "Open findings by cluster and group of signals.",
        {
            "cluster": CLUSTER_COMMENT,
            "group_id": "the group: tables, nodes, usage ...",
            "position": "position in the list of groups",
            "signals": "signals of the group",
            "evaluated": "signals that the last evaluation evaluated",
            "critical": "open findings that are critical",
            "warning": "open findings that are warnings",
            "info": "open findings that are informational",
            "oldest": "time at which the oldest of them was opened (UTC)",
            "newest": "time at which the newest of them was opened (UTC)",
        },
    ),
)
