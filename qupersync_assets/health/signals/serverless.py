"""Whether another size, or Serverless, would cost less."""

from qupersync_assets.health.signal import Group, Severity, Signal

_RPU = """(
    SELECT count(*) AS minutes, percentile_cont(0.05) WITHIN GROUP (ORDER BY compute_capacity_rpu) AS low,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY compute_capacity_rpu) AS high
    FROM quper.serverless_usage
    WHERE cluster = :cluster AND start_time >= :now - interval '7 days' AND compute_capacity_rpu > 0
) AS u"""
# A minute is busy if a query ran in it: the bits of its hour, or a query that began in an earlier hour. The seven days
# end with the last complete hour, and begin with the first query.
_IDLE = """(
    SELECT count(*) AS hours, count(DISTINCT (hour AT TIME ZONE 'UTC')::date) FILTER (WHERE queries > 0) AS days,
        round(100.0 - 100.0 * sum(bit_count((CASE WHEN busy_until >= hour + interval '1 hour' THEN (1::bigint << 60) - 1
            WHEN busy_until > hour THEN (1::bigint << 1 + date_part('minute', busy_until)::integer) - 1
            ELSE 0 END | coalesce(minutes, 0))::bit(64))) / (60.0 * count(*)), 1) AS idle_pct
    FROM (
        SELECT g.hour, q.queries, q.minutes, max(q.last_end) OVER (
            ORDER BY g.hour ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS busy_until
        FROM generate_series(
            (SELECT min(hour) FROM quper.health_query_hours
             WHERE cluster = :cluster AND hour >= :now - interval '7 days'),
            :now - interval '1 hour', interval '1 hour'
        ) AS g (hour)
        LEFT JOIN (
            SELECT hour, sum(queries) AS queries, bit_or(busy_minutes) AS minutes, max(last_end) AS last_end
            FROM quper.health_query_hours
            WHERE cluster = :cluster AND hour >= :now - interval '7 days' AND service_class_id <> -1 GROUP BY hour
        ) AS q ON q.hour = g.hour
    ) AS h
) AS i"""
_MGMT = "https://docs.aws.amazon.com/redshift/latest/mgmt/"

GROUP = Group(
    "Size of the cluster",
    (
        Signal(
            "variable_serverless_load",
            "Load of a Serverless workgroup varies a lot",
            Severity.INFO,
            ("serverless_usage_sync",),
            _RPU,
            "minutes >= 60 AND low BETWEEN 8 AND 512 AND high >= :threshold * low",
            {
                "object": "'workgroup'",
                "value": "round((high / low)::numeric, 2)",
                "note": "round(low::numeric, 1) || ' to ' || round(high::numeric, 1) || ' RPUs'",
            },
            threshold=2,
            unit="x",
            remedy="Switch AI-driven scaling on, with a price-performance target.",
            url=_MGMT + "serverless-capacity.html",
        ),
        Signal(
            "idle_cluster",
            "Provisioned cluster is idle most of the day",
            Severity.INFO,
            ("query_history_sync",),
            _IDLE,
            "days >= 3 AND idle_pct >= :threshold",
            {"object": "'cluster'", "value": "idle_pct", "note": "'in ' || hours || ' hours'"},
            threshold=75,
            unit="% of the time",
            remedy="Compare its price with that of Serverless, or pause it when it is not used.",
            url=_MGMT + "rs-mgmt-pause-resume-cluster.html",
        ),
    ),
)
