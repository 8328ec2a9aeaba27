"""Sums over queries by hour and by statement pattern, which outlive the queries; `health.query_sums` writes them."""

from typing import Any

import sqlalchemy as sa

from qupersync_assets.spec import CLUSTER_COMMENT, METADATA, UTC_TIME


def _key(name: str, type_: Any, comment: str) -> sa.Column[Any]:
    return sa.Column(name, type_, primary_key=True, autoincrement=False, comment=comment)


def _sum(name: str, comment: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False, comment=comment)


QUERY_HOURS = sa.Table(
    "health_query_hours",
    METADATA,
    _key("cluster", sa.Text, CLUSTER_COMMENT),
    _key("hour", UTC_TIME, "hour in which the queries started (UTC)"),
    _key("service_class_id", sa.Integer, "WLM service class; -1 on Serverless, 0: unknown"),
    _key("database_name", sa.Text, "database"),
    _key("user_name", sa.Text, "user; empty: unknown"),
    _key("application_name", sa.Text, "application; empty: unknown"),
    sa.Column("service_class_name", sa.Text, comment="name of the service class"),
    _sum("queries", "queries"),
    _sum("failed", "queries that failed"),
    _sum("copies", "COPY commands"),
    _sum("small_inserts", "queries that inserted 1 to 100 rows, from quper.query_metrics"),
    _sum("spilled_queries", "queries that spilled to disk, from quper.query_metrics"),
    _sum("spilled_mb", "MB that they spilled"),
    _sum("elapsed_us", "total time, in microseconds"),
    _sum("queue_us", "time in queues, in microseconds"),
    _sum("planning_us", "time planning, in microseconds"),
    _sum("compile_us", "time compiling, in microseconds"),
    _sum("lock_wait_us", "time waiting for table locks, in microseconds"),
    _sum("execution_us", "execution time, in microseconds"),
    _sum("scaling_us", "execution time on other compute than the primary one, in microseconds"),
    _sum("busy_minutes", "minutes with a running query: bit n is 1 for minute n of the hour"),
    sa.Column("last_end", UTC_TIME, comment="end of the query that ended last (UTC)"),
    comment="Queries by hour, queue, database, user and application.",
)

PATTERN_DAYS = sa.Table(
    "health_pattern_days",
    METADATA,
    _key("cluster", sa.Text, CLUSTER_COMMENT),
    _key("day", sa.Date, "day on which the queries started (UTC)"),
    _key("pattern", sa.Text, "generic_query_hash of the statement; without one its query_hash, or md5 of its text"),
    sa.Column("query_type", sa.Text, comment="SELECT, INSERT, COPY ..."),
    sa.Column("service_class_id", sa.Integer, comment="highest WLM service class; -1 on Serverless"),
    _sum("queries", "queries"),
    _sum("failed", "queries that failed"),
    _sum("elapsed_us", "total time, in microseconds"),
    _sum("execution_us", "execution time, in microseconds"),
    _sum("spilled_mb", "MB spilled to disk, from quper.query_metrics"),
    sa.Column("max_execution_us", sa.BigInteger, comment="longest execution time, in microseconds"),
    sa.Column("longest_query_id", sa.BigInteger, comment="query with that time, as in quper.query_history"),
    sa.Column("last_failed_query_id", sa.BigInteger, comment="query that failed last"),
    comment="Queries by day and statement pattern; only patterns that failed, ran ten times, or ran for a second.",
)

QUERY_SUMS = (QUERY_HOURS, PATTERN_DAYS)
