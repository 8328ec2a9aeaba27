"""Storage of the nodes."""

from qupersync_assets.health.signal import Group, Severity, Signal

_NODES = """(
    SELECT *, round(100.0 * used_mb / capacity_mb, 2) AS used_pct,
        round(100.0 * (used_mb - min(used_mb) OVER ()) / nullif(used_mb, 0), 2) AS more_pct,
        used_mb - min(used_mb) OVER () AS more_mb
    FROM quper.node_details WHERE cluster = :cluster AND removed_at IS NULL AND capacity_mb > 0
) AS n"""
_MGMT = "https://docs.aws.amazon.com/redshift/latest/mgmt/"
_DG = "https://docs.aws.amazon.com/redshift/latest/dg/"


def _signal(
    id_: str,
    title: str,
    severity: Severity,
    where: str,
    threshold: float,
    remedy: str,
    url: str,
    value: str = "used_pct",
) -> Signal:
    columns = {
        "object": "'node ' || node",
        "value": value,
        "size_mb": "used_mb",
        "note": "to_char(used_mb, 'FM999,999,999,990') || ' of ' || to_char(capacity_mb, 'FM999,999,999,990') "
        "|| ' MB are used'",
    }
    return Signal(
        id_, title, severity, ("node_details_sync",), _NODES, where, columns, threshold, "%", remedy=remedy, url=url
    )


GROUP = Group(
    "Storage of the nodes",
    (
        _signal(
            "storage_nearly_full",
            "Storage is nearly full",
            Severity.CRITICAL,
            "used_pct > :threshold",
            90,
            "Add nodes with an elastic resize, or drop tables that no query scans: see the signal unused_table.",
            _MGMT + "managing-cluster-operations.html",
        ),
        _signal(
            "storage_above_70",
            "Storage is above the recommended use",
            Severity.WARNING,
            "used_pct > :threshold",
            70,
            "Run VACUUM DELETE ONLY, compress columns, drop tables that no query scans, or add nodes.",
            _MGMT + "managing-cluster-operations.html",
        ),
        _signal(
            "storage_above_50",
            "Storage is half used: data that are read rarely could be unloaded",
            Severity.INFO,
            "used_pct > :threshold",
            50,
            "UNLOAD rows that are read rarely to Amazon S3, and query them with Redshift Spectrum.",
            _DG + "c-getting-started-using-spectrum.html",
        ),
        _signal(
            "storage_below_40",
            "Storage is little used: the cluster may be too large",
            Severity.INFO,
            "used_pct < :threshold",
            40,
            "Remove nodes with an elastic resize if queries stay fast enough.",
            _MGMT + "managing-cluster-operations.html",
        ),
        _signal(
            "nodes_differ",
            "Node stores more than another one",
            Severity.WARNING,
            "more_pct >= :threshold AND more_mb >= 1000",
            10,
            "Change the distribution of large tables with skew: see the signal large_table_with_skew.",
            _DG + "c_best-practices-best-dist-key.html",
            "more_pct",
        ),
        Signal(
            "node_generation",
            "Nodes are of an old generation",
            Severity.INFO,
            (),
            remedy="Migrate to the newest type of nodes.",
            url=_MGMT + "managing-cluster-considerations.html",
            unavailable="No system view has the type of the nodes, only DescribeClusters, which is not called.",
        ),
    ),
)
