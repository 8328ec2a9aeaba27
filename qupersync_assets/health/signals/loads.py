"""Loads by COPY."""

from qupersync_assets.health.signal import Group, Severity, Signal

_DG = "https://docs.aws.amazon.com/redshift/latest/dg/"
# As in AWS's review: COPY commands with rows by day, table, bucket and format, if there are more than 24.
_MANY_COPIES = 24
_COPIES = f"""(
    SELECT concat_ws('.', database_name, table_name) AS object, database_name, avg(source_file_count) AS files,
        avg(file_bytes_scanned::numeric / nullif(source_file_count, 0)) / 1e6 AS file_mb, max(query_id) AS query_id,
        count(*) AS copies, bool_or(splits_scanned > source_file_count) AS is_split
    FROM quper.load_history
    WHERE cluster = :cluster AND start_time >= :now - interval '7 days' AND loaded_rows > 0
        AND splits_scanned IS NOT NULL
    GROUP BY (end_time AT TIME ZONE 'UTC')::date, database_name, table_name, split_part(data_source, '/', 3),
        file_format
    HAVING count(DISTINCT query_id) > {_MANY_COPIES}
)"""


def _signal(
    id_: str, title: str, value: str, where: str, threshold: float | None, unit: str, jobs: tuple[str, ...], remedy: str
) -> Signal:
    source = f"""(
    SELECT object, round(min({value}), 2) AS value, sum(copies) AS copies, count(*) AS days, max(query_id) AS query_id,
        min(database_name) AS database
    FROM {_COPIES} AS c WHERE {where} GROUP BY object
) AS q"""
    columns = {name: name for name in ("object", "value", "query_id", "database")}
    return Signal(
        id_,
        title,
        Severity.WARNING,
        ("load_history_sync", *jobs),
        source,
        columns={**columns, "times": "copies", "note": "days || ' days of the last seven'"},
        threshold=threshold,
        unit=unit,
        times_are="COPY commands in seven days",
        remedy=remedy,
        url=_DG + "c_best-practices-use-multiple-files.html",
    )


GROUP = Group(
    "Loads",
    (
        _signal(
            "fewer_files_than_slices",
            "Loads of fewer files than the cluster has slices",
            "files",
            "NOT is_split AND files < "
            "(SELECT sum(slices) FROM quper.node_slices WHERE cluster = :cluster AND removed_at IS NULL)",
            None,
            "files",
            ("node_slices_sync",),
            "Split the data into as many files as the cluster has slices, or a multiple of it.",
        ),
        _signal(
            "small_files",
            "Loads of small files",
            "file_mb",
            "file_mb < :threshold",
            10,
            "MB",
            (),
            "Collect data until files have 1 MB to 1 GB after compression, then load them.",
        ),
        Signal(
            "load_errors",
            "Loads fail on lines of their files",
            Severity.WARNING,
            ("load_errors_sync",),
            """(
    SELECT concat_ws('.', min(t.database), min(t.schema), min(t.table_name)) AS object,
        count(*) AS errors, count(DISTINCT e.query) AS loads, max(e.query_id) AS query_id, e.table_id,
        min(coalesce(t.database, e.database_name)) AS database,
        (array_agg(concat_ws(': ', e.column_name, e.error_message)
            ORDER BY e.start_time DESC, e.query DESC, e.line_number, e.column_name, e.position, e.file_md5))[1] AS note
    FROM quper.load_errors AS e
    LEFT JOIN quper.table_stats AS t ON t.cluster = e.cluster AND t.table_id = e.table_id AND t.removed_at IS NULL
        AND t.database = coalesce(e.database_name, t.database)
    WHERE e.cluster = :cluster AND e.start_time >= :now - interval '7 days' GROUP BY e.table_id
) AS q""",
            columns={
                "object": "CASE object WHEN '' THEN 'table ' || table_id ELSE object END",
                "value": "errors",
                "times": "loads",
                **{name: name for name in ("note", "query_id", "table_id", "database")},
            },
            unit="errors in seven days",
            times_are="loads in seven days",
            remedy="SELECT * FROM quper.load_errors ORDER BY start_time DESC LIMIT 50; -- file, line and column",
            url=_DG + "r_Load_Error_Reference.html",
        ),
    ),
)
