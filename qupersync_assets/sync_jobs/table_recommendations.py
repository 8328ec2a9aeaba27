"""quper.table_recommendations: what Redshift Advisor recommends for tables, from svv_alter_table_recommendations."""

from sqlalchemy import BigInteger, Boolean, Integer, Text

from qupersync_assets.spec import SyncSpec, column, quper_table

SPEC = SyncSpec(
    sync_job_id="table_recommendations_sync",
    optional=True,
    table=quper_table(
        "table_recommendations",
        column("database", Text, "database of the table", padded=True),
        column("table_id", BigInteger, "table OID, as in quper.table_stats"),
        column("type", Text, "diststyle, sortkey or encode", padded=True),
        column("group_id", Integer, "group of recommendations to apply together; -1 for a sort key"),
        column("ddl", Text, "statement that applies the recommendation", padded=True, sensitive="sql"),
        column("ddl_md5", Text, "md5 of that statement", "ddl", "MD5(RTRIM(ddl))"),
        column(
            "auto_eligible", Boolean, "whether Redshift may apply it by itself", "auto_eligible", "auto_eligible = 't'"
        ),
        # A recommendation with another statement is another one.
        key=("database", "table_id", "type", "ddl_md5"),
        comment="Recommendations that are not applied yet; removed_at: one was applied, replaced or withdrawn.",
    ),
    kind="snapshot",
    transient=True,
    database_column="database",
    description="Advisor's recommendations for distribution, sort key and compression of tables, with the statement.",
    sources=("svv_alter_table_recommendations",),
    from_clause="FROM svv_alter_table_recommendations",
)
