"""Refreshes of materialized views."""

from qupersync_assets.health.signal import Group, Severity, Signal

_VIEWS = """(
    SELECT *, concat_ws('.', database_name, schema_name, name) AS object,
        quote_ident(schema_name) || '.' || quote_ident(name) AS target, CASE state
            WHEN 101 THEN 'a column was dropped' WHEN 102 THEN 'a column has another type'
            WHEN 103 THEN 'a table was renamed' WHEN 104 THEN 'a column was renamed'
            WHEN 105 THEN 'a schema was renamed' END AS why
    FROM quper.materialized_views WHERE cluster = :cluster AND removed_at IS NULL AND schema_name <> 'pg_automv'
) AS v"""
_DG = "https://docs.aws.amazon.com/redshift/latest/dg/"


def _signal(id_: str, title: str, severity: Severity, where: str, remedy: str, page: str) -> Signal:
    columns = {"object": "object", "value": "state", "target": "target", "note": "why", "database": "database_name"}
    return Signal(
        *(id_, title, severity, ("materialized_views_sync",), _VIEWS, where, columns),
        unit="(state)",
        remedy=remedy,
        url=_DG + page,
    )


GROUP = Group(
    "Materialized views",
    (
        _signal(
            "view_refreshed_completely",
            "Materialized view is computed again completely by each refresh",
            Severity.INFO,
            "state = 0",
            "Rewrite its query so that Redshift can refresh it incrementally.",
            "materialized-view-refresh-sql-command.html",
        ),
        _signal(
            "view_not_refreshable",
            "Materialized view can no longer be refreshed",
            Severity.CRITICAL,
            "state > 1 AND is_stale AND autorefresh",
            "DROP MATERIALIZED VIEW {target}; -- then create it again for its changed tables",
            "r_SVV_MV_INFO.html",
        ),
        _signal(
            "view_stale",
            "Materialized view is out of date",
            Severity.WARNING,
            "is_stale AND state IN (0, 1)",
            "REFRESH MATERIALIZED VIEW {target};",
            "materialized-view-refresh-sql-command.html",
        ),
    ),
)
