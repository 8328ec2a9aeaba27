"""quper.applications: one row per application, user and database that connected."""

from sqlalchemy import BigInteger, Text

from qupersync_assets.spec import UTC_TIME, SyncSpec, Variant, column, quper_table, source_expression

_FROM_CLAUSE = """
FROM {view}
WHERE RTRIM(application_name) <> '' AND COALESCE(RTRIM(event), '') <> 'authentication failure'
GROUP BY RTRIM(application_name), RTRIM({user}), RTRIM({database})"""
_NAMES = {"user": "user_name", "database": "database_name"}

# A process id is used again, and some rows have no id of the session: each of these is at most the number of sessions.
_SESSIONS = """GREATEST(COUNT(DISTINCT {pid}), COUNT(DISTINCT NULLIF(RTRIM({session}), '')),
       SUM(CASE WHEN RTRIM(event) = 'initiating session' THEN 1 ELSE 0 END))"""

COLUMNS = (
    column("application_name", Text, "application name that the client sent", padded=True),
    column("user_name", Text, "user", padded=True),
    column("database_name", Text, "database", padded=True),
    column("first_seen", UTC_TIME, "earliest known connection (UTC)", "record_time", "MIN(record_time)", merge="least"),
    column("last_seen", UTC_TIME, "latest known connection (UTC)", "record_time", "MAX(record_time)", merge="greatest"),
    column(
        "sessions",
        BigInteger,
        "sessions in the connection log, which Redshift keeps for seven days",
        ("session_id", "global_session_id", "event"),
        _SESSIONS.format(pid="session_id", session="global_session_id"),
    ),
)

SPEC = SyncSpec(
    sync_job_id="application_sync",
    table=quper_table(
        "applications",
        *COLUMNS,
        key=("application_name", "user_name", "database_name"),
        comment="Applications that connected to Redshift, as the connection log names them.",
        indexes=[("last_seen",)],
    ),
    kind="snapshot",
    description="Applications by user and database: first seen, last seen, sessions.",
    sources=("svl_user_activity",),
    from_clause=_FROM_CLAUSE.format(view="svl_user_activity", **_NAMES),
    alternatives=(
        Variant(
            sources=("sys_connection_log",),
            expressions={c.name: c.info["source_expression"] for c in COLUMNS},
            from_clause=_FROM_CLAUSE.format(view="sys_connection_log", **_NAMES),
        ),
        Variant(
            sources=("stl_connection_log",),
            expressions={
                "application_name": source_expression("application_name", padded=True),
                "user_name": source_expression("username", padded=True),
                "database_name": source_expression("dbname", padded=True),
                "first_seen": source_expression("recordtime", "MIN(recordtime)"),
                "last_seen": source_expression("recordtime", "MAX(recordtime)"),
                "sessions": source_expression(
                    ("pid", "sessionid", "event"), _SESSIONS.format(pid="pid", session="sessionid")
                ),
            },
            from_clause=_FROM_CLAUSE.format(view="stl_connection_log", user="username", database="dbname"),
        ),
    ),
)
