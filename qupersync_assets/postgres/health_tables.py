"""The tables of the findings about a cluster's health, and of the sums over queries that they need.

`qupersync_assets.health` fills them. The views for readers are in `health_views`.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from qupersync_assets.spec import CLUSTER_COMMENT, METADATA, UTC_TIME

# Names are compared byte by byte, which is fast.
_NAME = sa.Text(collation="C")


def _cluster() -> sa.Column[Any]:
    return sa.Column("cluster", sa.Text, primary_key=True, comment=CLUSTER_COMMENT)


def _key(name: str, type_: Any, comment: str) -> sa.Column[Any]:
    return sa.Column(name, type_, primary_key=True, comment=comment)


def _needed(name: str, type_: Any, comment: str, default: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, server_default=default, comment=comment)


# What to fix first; {f} stands for the table of the findings.
SEVERITY_RANK = "CASE {f}.severity WHEN 'critical' THEN 1 WHEN 'warning' THEN 2 ELSE 3 END"
PRIORITY = "round((ln(1.0::float + coalesce({f}.size_mb, 0)) + ln(1.0::float + coalesce({f}.times, 0)))::numeric, 2)"

HEALTH_FINDINGS = sa.Table(
    "health_findings",
    METADATA,
    _cluster(),
    _key("signal_id", _NAME, "the signal, as in quper.health_signals"),
    _key("object", _NAME, "what the finding is about: a table, a node, a queue, a statement pattern ..."),
    _needed("severity", sa.Text, "critical, warning or info"),
    sa.Column("value_first", sa.Numeric, comment="measured value at opened_at, in the unit of the signal"),
    sa.Column("value_now", sa.Numeric, comment="measured value now; of a resolved finding the last one"),
    sa.Column("size_mb", sa.BigInteger, comment="size of the object in MB; updated when it has changed by 10 %"),
    sa.Column("times", sa.BigInteger, comment="occurrences in seven days; quper.health_signals.times_are says of what"),
    sa.Column("target", sa.Text, comment="the text that replaces {target} in the remedy of the signal"),
    sa.Column("note", sa.Text, comment="further information, such as why something failed"),
    sa.Column("database", sa.Text, comment="database of the object, if it is in one"),
    sa.Column("table_id", sa.BigInteger, comment="OID of the table, if the finding is about one"),
    sa.Column("query_id", sa.BigInteger, comment="a query that shows the finding, as in quper.query_history"),
    sa.Column("pattern", sa.Text, comment="generic_query_hash of the statement, if the finding is about one"),
    _needed("first_seen", UTC_TIME, "first evaluation that found it (UTC)"),
    _needed("opened_at", UTC_TIME, "first_seen, or when it returned after it was resolved (UTC)"),
    sa.Column("last_seen", UTC_TIME, comment="of a resolved finding: last evaluation that found it (UTC); else NULL"),
    sa.Column("resolved_at", UTC_TIME, comment="first evaluation without it (UTC); NULL: the finding is open"),
    _needed("episodes", sa.Integer, "how often the finding was opened: 1, plus 1 for each return", "1"),
    _needed("changed_at", UTC_TIME, "when this version of the row was written (UTC)"),
    sa.Index(
        "health_findings_first_idx",
        "cluster",
        *(
            sa.text(f"({text.format(f='health_findings')}) {order}")
            for text, order in ((SEVERITY_RANK, ""), (PRIORITY, "DESC"))
        ),
        "opened_at",
        postgresql_where=sa.text("resolved_at IS NULL"),
    ),
    comment="Findings about a cluster's health, open and resolved: one row per cluster, signal and object. "
    "quper.health_open has the open ones with title and remedy.",
)

HEALTH_SIGNALS = sa.Table(
    "health_signals",
    METADATA,
    _cluster(),
    _key("signal_id", _NAME, "the signal"),
    _needed("group_id", sa.Text, "its group: tables, nodes, usage ..."),
    _needed("position", sa.Integer, "position in the list of all signals"),
    _needed("severity", sa.Text, "critical, warning or info"),
    _needed("title", sa.Text, "title of its findings: what is wrong"),
    sa.Column("unit", sa.Text, comment="unit of its values"),
    sa.Column("threshold", sa.Numeric, comment="limit of the value; NULL: the signal has no threshold"),
    sa.Column("times_are", sa.Text, comment="what `times` in quper.health_findings counts"),
    sa.Column(
        "remedy", sa.Text, comment="statement or setting that helps; {target} is replaced by the target of the finding"
    ),
    sa.Column("documentation", sa.Text, comment="address of AWS's documentation"),
    _needed("jobs", ARRAY(sa.Text), "sync jobs whose tables it reads"),
    _needed("status", sa.Text, "evaluated, stale, no data, not available, off or failed"),
    sa.Column("reason", sa.Text, comment="why it was not evaluated"),
    sa.Column(
        "last_evaluated_at",
        UTC_TIME,
        comment="last evaluation of a signal that is not evaluated now (UTC); NULL: never",
    ),
    comment="Signals: the conditions that are checked in each cluster, and whether they could be checked.",
)

HEALTH_EVALUATIONS = sa.Table(
    "health_evaluations",
    METADATA,
    _cluster(),
    _needed("evaluated_at", UTC_TIME, "the last evaluation (UTC)"),
    _needed("duration_ms", sa.BigInteger, "milliseconds that it took"),
    _needed("settings_md5", sa.Text, "identifies the signals and thresholds of the last evaluation"),
    sa.Column("price_per_hour", sa.Numeric, comment="price of one hour of the cluster"),
    comment="The last evaluation of each cluster's health.",
)

HEALTH_TABLES = (HEALTH_FINDINGS, HEALTH_SIGNALS, HEALTH_EVALUATIONS)
