"""quper.vacuum_history: one row per reported step of a vacuum."""

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, Text

from qupersync_assets.spec import (
    CLUSTER_COMMENT,
    UTC_TIME,
    SyncSpec,
    Variant,
    View,
    column,
    generated_column,
    quper_table,
    source_expression,
)
from qupersync_assets.spec.source_variant import SourceExpression
from qupersync_assets.sync_jobs.table_stats import OF_WRITTEN_VACUUMS

# The texts of real clusters differ from the documentation, so patterns are compared. stl_vacuum.status has 30
# characters: of `[VacuumBG] Started Ranged Partition` it shows `[VacuumBG] Started Ranged Part`.
OUTCOME = """
CASE WHEN status ILIKE '%skipped%' THEN 'skipped'
     WHEN status ILIKE '%finished%' THEN 'finished'
     WHEN status ILIKE '%failed%' THEN 'failed'
     WHEN status ILIKE '%started%' THEN 'started' END"""
VACUUM_TYPE = """
CASE WHEN status ILIKE '%finished%' THEN NULL
     WHEN status ILIKE '%delete only%' THEN 'DELETE ONLY'
     WHEN status ILIKE '%sort only%' THEN 'SORT ONLY'
     WHEN status ILIKE '%reindex%' THEN 'REINDEX'
     WHEN status ILIKE '%ranged part%' THEN 'RANGED PARTITION'
     WHEN status ILIKE '%recluster%' THEN 'RECLUSTER'
     WHEN status ILIKE '%started%' THEN 'FULL' END"""

# The view has one row per vacuum, with values before and after it. As in stl_vacuum, it becomes a row for the
# start and a row for the end, or one row for a skipped vacuum.
_SKIPPED = "COALESCE(status, '') ILIKE '%skipped%'"
_STATUS = f"""CASE WHEN is_automatic THEN '[VacuumBG] ' ELSE '' END || CASE
           WHEN {_SKIPPED} THEN 'Skipped'
           WHEN is_end AND status ILIKE '%failed%' THEN 'Failed'
           WHEN is_end THEN 'Finished'
           WHEN vacuum_type ILIKE 'delete%' THEN 'Started Delete Only'
           WHEN vacuum_type ILIKE 'sort%' THEN 'Started Sort Only'
           WHEN vacuum_type ILIKE 'reindex%' THEN 'Started Reindex'
           WHEN vacuum_type ILIKE 'recluster%' THEN 'Started Recluster'
           ELSE 'Started' END"""


_NAMES = ("database_name", "schema_name", "table_name")


def _name(name: str, comment: str) -> Column[Any]:
    reads = [f"sys_vacuum_history.{column}" for column in (name, "transaction_id", "table_id")]
    return column(name, Text, f"{comment}, from sys_vacuum_history", reads, f"names.{name}", merge="coalesce")


def _before_after(before: str, other: str, after: str = "") -> SourceExpression:
    return source_expression((before, other), f"CASE WHEN is_end THEN {after or other} ELSE {before} END")


SYS_VACUUM_HISTORY = Variant(
    sources=("sys_vacuum_history",),
    expressions={
        "userid": source_expression("user_id"),
        "xid": source_expression("transaction_id"),
        "table_id": source_expression("table_id"),
        "status": source_expression(("status", "vacuum_type", "is_automatic"), _STATUS),
        "rows": _before_after("rows_before_vacuum", "reclaimed_rows", "rows_before_vacuum - reclaimed_rows"),
        "sortedrows": _before_after("sortedrows_before_vacuum", "sortedrows_after_vacuum"),
        "blocks": _before_after("size_before_vacuum", "reclaimed_blocks", "size_before_vacuum - reclaimed_blocks"),
        "eventtime": _before_after("start_time", "end_time"),
        "reclaimable_rows": source_expression("reclaimable_rows"),
        **{name: source_expression(name, padded=True) for name in _NAMES},
        "is_recluster": source_expression("vacuum_type", "CASE WHEN vacuum_type ILIKE 'recluster%' THEN 1 ELSE 0 END"),
    },
    from_clause=f"""
FROM sys_vacuum_history
CROSS JOIN (SELECT false AS is_end UNION ALL SELECT true) ends
WHERE (NOT is_end AND (start_time >= {{since}} OR start_time IS NULL))
   OR (is_end AND end_time >= {{since}} AND NOT {_SKIPPED})
ORDER BY eventtime, transaction_id, table_id""",
)

TABLE = quper_table(
    "vacuum_history",
    column("userid", Integer, "user who ran the vacuum; 1 is Redshift itself"),
    column("xid", BigInteger, "transaction of the vacuum"),
    column("table_id", BigInteger, "table OID"),
    column("status", Text, "Started..., Finished, Failed or Skipped...; [VacuumBG] marks automatic ones", padded=True),
    column("rows", BigInteger, "rows on disk, including deleted ones, before (Started) or after (Finished)"),
    column("sortedrows", BigInteger, "sorted rows, before or after"),
    column("blocks", BigInteger, "blocks of 1 MB, before or after"),
    column("max_merge_partitions", Integer, "maximum number of partitions per merge pass"),
    column("eventtime", UTC_TIME, "time at which this status was recorded (UTC)"),
    column("reclaimable_rows", BigInteger, "rows that the vacuum can remove (estimate)"),
    column("reclaimable_space_mb", BigInteger, "space that the vacuum can free, in MB (estimate)"),
    column("cutoff_xid", BigInteger, "last transaction whose deleted rows may be removed"),
    column("is_recluster", Integer, "1 if the vacuum is a recluster"),
    _name("database_name", "database of the table"),
    _name("schema_name", "schema of the table"),
    _name("table_name", "name of the table"),
    generated_column("outcome", Text, "started, finished, failed or skipped", OUTCOME, of="status"),
    generated_column("vacuum_type", Text, "kind of vacuum; NULL on Finished rows", VACUUM_TYPE, of="status"),
    # A vacuum has several rows, with values before and after it; status and time distinguish them.
    key=("xid", "table_id", "status", "eventtime"),
    comment="Steps of vacuums: one row at the start, one at the end; kept longer than in Redshift.",
    indexes=[("eventtime",), ("table_id", "eventtime")],
    shared_indexes=[("eventtime",)],
)

_STL = """
FROM stl_vacuum{names}
WHERE eventtime >= {{since}} OR eventtime IS NULL
ORDER BY eventtime, xid, table_id"""
_JOIN_NAMES = """
LEFT JOIN (
    SELECT transaction_id, table_id AS vacuumed_id, MAX(RTRIM(database_name)) AS database_name,
           MAX(RTRIM(schema_name)) AS schema_name, MAX(RTRIM(table_name)) AS table_name
    FROM sys_vacuum_history
    GROUP BY transaction_id, table_id
) names ON names.transaction_id = xid AND names.vacuumed_id = table_id"""

VACUUMS = View(
    "vacuums",
    """SELECT s.cluster, coalesce(s.database_name, e.database_name, t.database) AS database_name,
    coalesce(s.schema_name, e.schema_name, t.schema) AS schema_name,
    coalesce(s.table_name, e.table_name, t.table_name) AS table_name,
    s.table_id, s.xid, s.userid, s.status LIKE '[VacuumBG]%' AS is_automatic, s.vacuum_type,
    CASE s.outcome WHEN 'skipped' THEN 'skipped' ELSE e.outcome END AS outcome,
    s.eventtime AS started_at, e.eventtime AS finished_at,
    extract(epoch FROM e.eventtime - s.eventtime)::numeric(18, 6) AS duration_s,
    s.rows AS rows_before, e.rows AS rows_after, s.rows - e.rows AS rows_reclaimed,
    s.blocks AS mb_before, e.blocks AS mb_after, s.blocks - e.blocks AS mb_reclaimed
FROM quper.vacuum_history AS s
LEFT JOIN LATERAL (
    SELECT * FROM quper.vacuum_history AS f
    WHERE s.outcome = 'started' AND f.cluster = s.cluster AND f.xid = s.xid AND f.table_id = s.table_id
      AND f.eventtime >= s.eventtime AND (f.eventtime, f.status) <> (s.eventtime, s.status)
    ORDER BY f.eventtime, f.outcome = 'started' LIMIT 1
) AS e ON e.outcome IN ('finished', 'failed')
LEFT JOIN LATERAL (
    SELECT max(database) AS database, max(schema) AS schema, max(table_name) AS table_name FROM quper.table_stats
    WHERE s.table_name IS NULL AND table_stats.cluster = s.cluster AND table_stats.table_id = s.table_id
    HAVING count(*) = 1
) AS t ON true
WHERE s.outcome IN ('started', 'skipped')""",
    "Vacuums: one row per vacuum of a table, from its start and its end in quper.vacuum_history.",
    {
        "cluster": CLUSTER_COMMENT,
        "database_name": "database of the table",
        "schema_name": "schema of the table",
        "table_name": "name of the table; NULL if neither sys_vacuum_history nor quper.table_stats has it",
        "table_id": "table OID",
        "xid": "transaction of the vacuum",
        "userid": "user who ran the vacuum; 1 is Redshift itself",
        "is_automatic": "whether Redshift started the vacuum by itself",
        "vacuum_type": "FULL, DELETE ONLY, SORT ONLY, REINDEX, RECLUSTER or RANGED PARTITION; NULL: skipped",
        "outcome": "finished, failed or skipped; NULL: the vacuum still runs or was aborted",
        "started_at": "start (UTC)",
        "finished_at": "end (UTC)",
        "duration_s": "seconds from start to end",
        "rows_before": "rows before the vacuum, including deleted ones",
        "rows_after": "rows after the vacuum",
        "rows_reclaimed": "rows that the vacuum removed; negative if rows were added meanwhile",
        "mb_before": "size before the vacuum, in MB (blocks of 1 MB)",
        "mb_after": "size after the vacuum, in MB",
        "mb_reclaimed": "space that the vacuum freed, in MB",
    },
)

SPEC = SyncSpec(
    sync_job_id="vacuum_history_sync",
    table=TABLE,
    kind="history",
    time_column="eventtime",
    description="Vacuums of each table: time, kind, rows and blocks before and after.",
    sources=("stl_vacuum", "sys_vacuum_history"),
    from_clause=_STL.format(names=_JOIN_NAMES),
    # All rows that the view has: https://docs.aws.amazon.com/redshift/latest/dg/r_Datetime_types.html
    full_read_since="'4713-01-01 BC'::timestamp",
    alternatives=(
        Variant(
            sources=("stl_vacuum",),
            expressions={
                c.name: c.info["source_expression"]
                for c in TABLE.c
                if "source_expression" in c.info and c.name not in _NAMES
            },
            from_clause=_STL.format(names=""),
        ),
        SYS_VACUUM_HISTORY,
    ),
    after_load=OF_WRITTEN_VACUUMS,
    views=(VACUUMS,),
)
