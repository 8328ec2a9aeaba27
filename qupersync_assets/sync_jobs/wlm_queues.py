"""quper.wlm_queues: the queues of workload management, from stv_wlm_service_class_config."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, Text

from qupersync_assets.spec import ColumnType, SyncSpec, column, quper_table


def _queue(name: str, type_: ColumnType, comment: str, reads: str = "", sql: str = "") -> Column[Any]:
    return column(name, type_, comment, reads or name, sql or f"q.{reads or name}")


SPEC = SyncSpec(
    sync_job_id="wlm_queues_sync",
    optional=True,
    table=quper_table(
        "wlm_queues",
        _queue(
            "service_class",
            Integer,
            "number of the queue, as in quper.query_history; 1 to 4: system, 5: superuser, 6 to 13: manual WLM, "
            "14: short query acceleration, 15: maintenance, 100 to 107: automatic WLM",
        ),
        _queue("name", Text, "name of the queue", sql="RTRIM(q.name)"),
        _queue("num_query_tasks", Integer, "slots; -1: automatic WLM"),
        _queue("target_num_query_tasks", Integer, "slots after the current change of the configuration"),
        _queue("query_working_mem_mb", Integer, "memory per slot and node, in MB; -1: automatic", "query_working_mem"),
        _queue(
            "target_query_working_mem_mb",
            Integer,
            "memory per slot and node after the current change, in MB",
            "target_query_working_mem",
        ),
        _queue(
            "max_execution_time_ms",
            BigInteger,
            "time after which a query is ended, in milliseconds; 0: never",
            "max_execution_time",
        ),
        _queue("user_group_wild_card", Boolean, "whether * in names of user groups is a wildcard"),
        _queue("query_group_wild_card", Boolean, "whether * in names of query groups is a wildcard"),
        _queue("user_role_wild_card", Boolean, "whether * in names of roles is a wildcard"),
        _queue("concurrency_scaling", Text, "auto or off", sql="RTRIM(q.concurrency_scaling)"),
        _queue("query_priority", Text, "lowest, low, normal, high or highest", sql="RTRIM(q.query_priority)"),
        column(
            "conditions",
            BigInteger,
            "number of rules that assign queries to the queue; 0: it is not in use",
            "stv_wlm_classification_config.action_service_class",
            "COALESCE(c.conditions, 0)",
        ),
        key=("service_class",),
        comment="Queues (service classes) of workload management.",
    ),
    kind="snapshot",
    description="WLM queues: slots, memory, priority, concurrency scaling and timeout.",
    sources=("stv_wlm_service_class_config", "stv_wlm_classification_config"),
    from_clause="""
FROM stv_wlm_service_class_config q
LEFT JOIN (
    SELECT action_service_class, COUNT(*) AS conditions
    FROM stv_wlm_classification_config GROUP BY action_service_class
) c ON c.action_service_class = q.service_class""",
)
