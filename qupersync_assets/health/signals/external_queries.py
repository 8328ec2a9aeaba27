"""Queries of external tables."""

from qupersync_assets.health.signal import Group, Severity, Signal

GROUP = Group(
    "Queries of external tables",
    (
        Signal(
            "partitions_not_pruned",
            "Long queries read all partitions of an external table",
            Severity.WARNING,
            (),
            remedy="Filter by the columns of the partitions.",
            url="https://docs.aws.amazon.com/redshift/latest/dg/c-spectrum-external-performance.html",
            unavailable="No sync job reads sys_external_query_detail.",
        ),
    ),
)
