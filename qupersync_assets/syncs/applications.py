"""quper.applications: which applications connect, one row an application, user and database."""

from sqlalchemy import BigInteger, DateTime, Text

from qupersync_assets.spec import SyncSpec, column, quper_table

SPEC = SyncSpec(
    sync_job_id="application_sync",
    table=quper_table(
        "applications",
        column("application_name", Text(), "name that the client gave itself", padded=True),
        column("user_name", Text(), "user", padded=True),
        column("database_name", Text(), "database", padded=True),
        column(
            "first_seen",
            DateTime(timezone=True),
            "earliest connection ever seen (UTC)",
            reads="record_time",
            sql="MIN(record_time)",
            merge="least",
        ),
        column(
            "last_seen",
            DateTime(timezone=True),
            "latest connection seen (UTC)",
            reads="record_time",
            sql="MAX(record_time)",
            merge="greatest",
        ),
        column(
            "sessions",
            BigInteger(),
            "sessions among the connections that Redshift still holds (seven days)",
            reads="session_id",
            sql="COUNT(DISTINCT session_id)",
        ),
        key=("application_name", "user_name", "database_name"),
        comment="Applications that connected to Redshift, as the connection log names them.",
        indexes=[("last_seen DESC",)],
    ),
    kind="snapshot",
    description="Applications by user and database: first seen, last seen, sessions.",
    sources=("svl_user_activity",),
    tail="""
FROM svl_user_activity
WHERE RTRIM(application_name) <> ''
GROUP BY RTRIM(application_name), RTRIM(user_name), RTRIM(database_name)""",
)
