"""quper.vacuum_history: every step that a vacuum reports, from stl_vacuum."""

from sqlalchemy import BigInteger, DateTime, Integer, Text

from qupersync_assets.spec import SyncSpec, column, derived, quper_table
from qupersync_assets.syncs.table_stats import LINK_LAST_VACUUM

# Texts differ between the documentation and real clusters, hence patterns and not equality.
OUTCOME = """
CASE WHEN status ILIKE '%skipped%' THEN 'skipped'
     WHEN status ILIKE '%finished%' THEN 'finished'
     WHEN status ILIKE '%started%' THEN 'started' END"""
VACUUM_TYPE = """
CASE WHEN status ILIKE '%finished%' THEN NULL
     WHEN status ILIKE '%delete only%' THEN 'DELETE ONLY'
     WHEN status ILIKE '%sort only%' THEN 'SORT ONLY'
     WHEN status ILIKE '%reindex%' THEN 'REINDEX'
     WHEN status ILIKE '%ranged partition%' THEN 'RANGED PARTITION'
     WHEN status ILIKE '%started%' THEN 'FULL' END"""

SPEC = SyncSpec(
    sync_job_id="vacuum_history_sync",
    table=quper_table(
        "vacuum_history",
        column("userid", Integer(), "user who ran the vacuum; 1 is Redshift itself"),
        column("xid", BigInteger(), "transaction of the vacuum"),
        column("table_id", BigInteger(), "table OID"),
        column(
            "status",
            Text(),
            "Started..., Finished or Skipped...; [VacuumBG] marks automatic ones",
            padded=True,
        ),
        column("rows", BigInteger(), "rows on disk, deleted ones too: before (Started) or after (Finished)"),
        column("sortedrows", BigInteger(), "sorted rows, before or after"),
        column("blocks", BigInteger(), "blocks of 1 MB, before or after"),
        column("max_merge_partitions", Integer(), "most partitions that one merge pass can take"),
        column("eventtime", DateTime(timezone=True), "when this status was recorded (UTC)"),
        column("reclaimable_rows", BigInteger(), "rows that the vacuum can remove (estimate)"),
        column("reclaimable_space_mb", BigInteger(), "space that the vacuum can free, in MB (estimate)"),
        column("cutoff_xid", BigInteger(), "transaction up to which deleted rows may go"),
        column("is_recluster", Integer(), "1 if the vacuum is a recluster"),
        derived("outcome", Text(), "started, finished or skipped", OUTCOME, reads="status"),
        derived("vacuum_type", Text(), "kind of vacuum; NULL on Finished rows", VACUUM_TYPE, reads="status"),
        # One vacuum leaves several rows, with values before and after it: status and time tell them apart.
        key=("xid", "table_id", "status", "eventtime"),
        comment="Steps of vacuums, as stl_vacuum logs them; kept longer than Redshift's seven days.",
        indexes=[("eventtime DESC",), ("table_id", "eventtime DESC")],
    ),
    kind="history",
    description="Vacuums of every table: when, which kind, rows and blocks before and after.",
    sources=("stl_vacuum",),
    tail="FROM stl_vacuum\nORDER BY eventtime, xid, table_id",
    after_load=LINK_LAST_VACUUM,
)
