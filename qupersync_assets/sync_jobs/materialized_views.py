"""quper.materialized_views: whether materialized views are current and can be refreshed, from svv_mv_info."""

from typing import Any

from sqlalchemy import Boolean, Column, Integer, Text

from qupersync_assets.spec import SyncSpec, column, quper_table


def _flag(name: str, comment: str) -> Column[Any]:
    # Documented as t and f, and 1 and 0 in the documentation's example.
    sql = f"CASE WHEN {name} IN ('t', '1') THEN true WHEN {name} IN ('f', '0') THEN false END"
    return column(name, Boolean, comment, sql=sql)


SPEC = SyncSpec(
    sync_job_id="materialized_views_sync",
    optional=True,
    table=quper_table(
        "materialized_views",
        column("database_name", Text, "database", padded=True),
        column("schema_name", Text, "schema; pg_automv has the views that Redshift creates by itself", padded=True),
        column("user_name", Text, "owner", padded=True),
        column("name", Text, "materialized view", padded=True),
        column(
            "is_stale",
            Boolean,
            "whether its tables changed since the last refresh; NULL if Redshift does not know",
            sql="CASE is_stale WHEN 't' THEN true WHEN 'f' THEN false END",
        ),
        column(
            "state",
            Integer,
            "0: refreshed completely; 1: incrementally; not refreshed because of a 101: dropped column, "
            "102: changed type of a column, 103: renamed table, 104: renamed column, 105: renamed schema",
        ),
        _flag("autorewrite", "whether Redshift may use it to rewrite queries"),
        _flag("autorefresh", "whether Redshift refreshes it"),
        key=("database_name", "schema_name", "name"),
        comment="Materialized views with their current state.",
    ),
    kind="snapshot",
    database_column="database_name",
    description="Materialized views: whether they are stale, and how they are refreshed.",
    sources=("svv_mv_info",),
    from_clause="FROM svv_mv_info",
)
