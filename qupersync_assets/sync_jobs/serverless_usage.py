"""quper.serverless_usage: capacity and cost of Redshift Serverless by minute, from sys_serverless_usage."""

from sqlalchemy import BigInteger, Double

from qupersync_assets.spec import UTC_TIME, SyncSpec, column, quper_table

SPEC = SyncSpec(
    sync_job_id="serverless_usage_sync",
    optional=True,
    table=quper_table(
        "serverless_usage",
        column("start_time", UTC_TIME, "start of the interval of one minute (UTC)"),
        column("end_time", UTC_TIME, "end of the interval (UTC)"),
        column("compute_rpu_seconds", Double, "used capacity, in RPU-seconds", "compute_seconds"),
        column("compute_capacity_rpu", Double, "average capacity, in RPUs", "compute_capacity"),
        column("data_storage_mb", BigInteger, "average storage, in MB", "data_storage"),
        column(
            "cross_region_transferred_bytes",
            BigInteger,
            "data shared across regions, in bytes",
            "cross_region_transferred_data",
        ),
        column("charged_rpu_seconds", BigInteger, "charged capacity, in RPU-seconds; sum it up", "charged_seconds"),
        key=("start_time",),
        comment="Usage of Redshift Serverless, one row per minute. Charges are set when a transaction ends.",
        shared_indexes=[("start_time",)],
    ),
    kind="history",
    time_column="start_time",
    description="RPUs used and charged, storage, and transfers of a Serverless workgroup.",
    sources=("sys_serverless_usage",),
    # Redshift changes rows while a transaction runs: those of a day are read again.
    from_clause="""
FROM sys_serverless_usage
WHERE start_time >= {since} - INTERVAL '1 day' OR start_time IS NULL
ORDER BY start_time""",
)
