"""Configuration of workload management."""

from qupersync_assets.health.signal import Group, Severity, Signal

# As in AWS's review: queues that rules assign queries to, without those of the system. 5 is that of superusers, 14 that
# of short query acceleration, 15 that of maintenance; automatic WLM has 100 to 107. One finding for the cluster.
_QUEUES = """(
    SELECT count(*) FILTER (WHERE service_class NOT IN (5, 14, 15)) AS queues,
        string_agg(coalesce(name, service_class::text), ', ' ORDER BY service_class)
            FILTER (WHERE service_class NOT IN (5, 14, 15)) AS names,
        bool_or(service_class >= 100) AS is_automatic, count(*) FILTER (WHERE service_class BETWEEN 6 AND 13) AS manual,
        count(*) FILTER (WHERE service_class BETWEEN 100 AND 107) AS automatic,
        coalesce(bool_or(concurrency_scaling = 'auto'), false) AS scales, bool_or(service_class = 14) AS accelerates,
        count(DISTINCT query_priority) FILTER (WHERE service_class NOT IN (5, 14, 15)) AS priorities
    FROM quper.wlm_queues WHERE cluster = :cluster AND removed_at IS NULL AND service_class > 4 AND conditions > 0
) AS q"""
_HAS_RULE = """EXISTS (
    SELECT FROM quper.wlm_rules AS r
    JOIN quper.wlm_queues AS u ON u.cluster = r.cluster AND u.service_class = r.service_class
    WHERE r.cluster = :cluster AND r.removed_at IS NULL AND u.removed_at IS NULL AND u.service_class > 4
        AND u.conditions > 0{metric}
)"""
_DG = "https://docs.aws.amazon.com/redshift/latest/dg/"
_JOBS = ("wlm_queues_sync",)
_RULES = "cm-c-wlm-query-monitoring-rules.html"


def _signal(
    id_: str,
    title: str,
    where: str,
    remedy: str,
    page: str,
    *,
    severity: Severity = Severity.INFO,
    jobs: tuple[str, ...] = _JOBS,
) -> Signal:
    columns = {"object": "'workload management'", "value": "queues", "note": "names"}
    where = f"queues > 0 AND {where}"
    return Signal(id_, title, severity, jobs, _QUEUES, where, columns, unit="queues", remedy=remedy, url=_DG + page)


def _rule(id_: str, title: str, metric: str, remedy: str, severity: Severity = Severity.INFO) -> Signal:
    condition = _HAS_RULE.format(metric=f" AND r.metric_name LIKE '%{metric}%'" if metric else "")
    return _signal(
        *(id_, title, f"NOT {condition}", remedy, _RULES), severity=severity, jobs=(*_JOBS, "wlm_rules_sync")
    )


GROUP = Group(
    "Workload management",
    (
        _signal(
            "one_queue",
            "All queries use one queue",
            "is_automatic AND (manual = 1 OR automatic = 1)",
            "Define a queue for each kind of workload: dashboards, loads, people.",
            "cm-c-wlm-queue-assignment-rules.html",
        ),
        _signal(
            "manual_wlm",
            "Queues are configured manually",
            "NOT is_automatic",
            "Use automatic WLM: it sets slots and memory by itself.",
            "automatic-wlm.html",
            severity=Severity.WARNING,
        ),
        _signal(
            "no_concurrency_scaling",
            "No queue has concurrency scaling",
            "NOT scales",
            "Set concurrency scaling of a queue to auto; an hour a day is free.",
            "concurrency-scaling-queues.html",
        ),
        _signal(
            "no_short_query_acceleration",
            "Short query acceleration is off",
            "NOT accelerates",
            "Switch short query acceleration on in the parameter group.",
            "wlm-short-query-acceleration.html",
        ),
        _signal(
            "one_priority",
            "All queues have the same priority",
            "is_automatic AND priorities = 1",
            "Give queues different priorities, such as high for dashboards and low for loads.",
            "query-priority.html",
        ),
        _rule(
            "no_monitoring_rules",
            "No query monitoring rule exists",
            "",
            "Add query monitoring rules that log or end queries that cost too much.",
            Severity.WARNING,
        ),
        _rule(
            "no_rule_on_execution_time",
            "No query monitoring rule limits the execution time",
            "query_execution_time",
            "Add a query monitoring rule on query_execution_time.",
        ),
        _rule(
            "no_rule_on_spill",
            "No query monitoring rule limits the spill to disk",
            "query_temp_blocks_to_disk",
            "Add a query monitoring rule on query_temp_blocks_to_disk.",
        ),
        Signal(
            "no_rule_on_spectrum",
            "No query monitoring rule limits scans of external tables",
            Severity.INFO,
            (),
            remedy="Add a query monitoring rule on spectrum_scan_size_mb or spectrum_scan_row_count.",
            url=_DG + _RULES,
            unavailable="It matters only if queries scan external tables, and no sync job reads "
            "sys_external_query_detail.",
        ),
    ),
)
