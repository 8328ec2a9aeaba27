"""How queries use the cluster, by hour and queue."""

from qupersync_assets.health.signal import Group, Severity, Signal

# As in AWS's review, without the queues of Redshift itself; Serverless has one queue, -1.
_QUEUES = """
SELECT hour, service_class_id, max(service_class_name) AS name, sum(copies) AS copies,
    sum(small_inserts) AS small_inserts, sum(spilled_queries) AS spilled_queries, sum(spilled_mb) AS spilled_mb,
    round(100.0 * sum(queue_us) / nullif(sum(elapsed_us), 0), 2) AS queue_pct,
    round(sum(scaling_us) / 1e6, 1) AS scaling_s
FROM quper.health_query_hours
WHERE cluster = :cluster AND hour >= :now - interval '7 days' AND (service_class_id >= 5 OR service_class_id = -1)
GROUP BY hour, service_class_id"""
_DG = "https://docs.aws.amazon.com/redshift/latest/dg/"


def _signal(
    id_: str,
    title: str,
    column: str,
    threshold: float,
    unit: str,
    remedy: str,
    page: str,
    *,
    severity: Severity = Severity.WARNING,
    jobs: tuple[str, ...] = ("query_history_sync",),
) -> Signal:
    source = f"""(
    SELECT service_class_id, max(name) AS name, max({column}) AS worst, count(*) AS hours,
        (array_agg(hour ORDER BY {column} DESC, hour DESC))[1] AS worst_hour
    FROM health_queues WHERE {column} > :threshold GROUP BY service_class_id
) AS q"""
    columns = {
        "object": "concat_ws(' ', 'queue', service_class_id, '(' || name || ')')",
        "value": "worst",
        "times": "hours",
        "note": "'worst in the hour of ' || to_char(worst_hour AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:00 \"UTC\"')",
    }
    return Signal(
        id_,
        title,
        severity,
        jobs,
        source,
        columns=columns,
        threshold=threshold,
        unit=unit,
        times_are="hours in seven days",
        remedy=remedy,
        url=_DG + page,
    )


_WITH_METRICS = ("query_history_sync", "query_metrics_sync")

GROUP = Group(
    "How queries use the cluster",
    prepared={"health_queues": _QUEUES},
    signals=(
        _signal(
            "many_copies",
            "Many COPY commands in an hour",
            "copies",
            100,
            "COPY commands",
            "Load several files with one COPY, or use a COPY JOB.",
            "c_best-practices-single-copy-command.html",
        ),
        _signal(
            "many_small_inserts",
            "Many inserts of a few rows in an hour",
            "small_inserts",
            100,
            "inserts",
            "Insert many rows at once, or load files with COPY.",
            "c_best-practices-multi-row-inserts.html",
            jobs=_WITH_METRICS,
        ),
        _signal(
            "queueing",
            "Queries wait in a queue",
            "queue_pct",
            5,
            "% of their time",
            "Set concurrency scaling of the queue to auto, or use automatic WLM with priorities.",
            "concurrency-scaling-queues.html",
        ),
        _signal(
            "spilling",
            "Many queries spill to disk in an hour",
            "spilled_queries",
            100,
            "queries",
            "Add a query monitoring rule on query_temp_blocks_to_disk, and review the queries: "
            "SELECT * FROM quper.query_metrics ORDER BY spilled_mb DESC LIMIT 50;",
            "cm-c-wlm-query-monitoring-rules.html",
            jobs=_WITH_METRICS,
        ),
        _signal(
            "concurrency_scaling",
            "Much concurrency scaling in an hour",
            "scaling_s",
            600,
            "s",
            "Set a usage limit for concurrency scaling, or move queries to other hours.",
            "concurrency-scaling.html",
            severity=Severity.INFO,
        ),
    ),
)
