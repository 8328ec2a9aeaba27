"""quper.wlm_rules: the query monitoring rules of the queues, from stv_wlm_qmr_config."""

from sqlalchemy import Double, Integer, Text

from qupersync_assets.spec import SyncSpec, column, quper_table

SPEC = SyncSpec(
    sync_job_id="wlm_rules_sync",
    optional=True,
    table=quper_table(
        "wlm_rules",
        column("service_class", Integer, "number of the queue, as in quper.wlm_queues"),
        column("rule_name", Text, "name of the rule", padded=True),
        column("action", Text, "log, hop, abort or change_query_priority", padded=True),
        column("metric_name", Text, "what is measured, such as query_execution_time", padded=True),
        column("metric_operator", Text, "<, = or >", padded=True),
        column("metric_value", Double, "threshold, in the unit of the metric"),
        column("action_value", Text, "new priority, for change_query_priority", padded=True),
        key=("service_class", "rule_name", "metric_name", "metric_operator"),
        comment="Query monitoring rules, one row per condition of a rule.",
    ),
    kind="snapshot",
    transient=True,
    description="WLM rules: conditions under which queries of a queue are logged or ended.",
    sources=("stv_wlm_qmr_config",),
    from_clause="FROM stv_wlm_qmr_config",
)
