"""quper.node_slices: the slices of each node, from stv_slices; a COPY is fastest with a multiple of them as files."""

from sqlalchemy import BigInteger, Integer

from qupersync_assets.spec import SyncSpec, column, quper_table

SPEC = SyncSpec(
    sync_job_id="node_slices_sync",
    optional=True,
    table=quper_table(
        "node_slices",
        column("node", Integer, "number of the node, as in quper.node_details"),
        column("slices", BigInteger, "slices that hold data", "type", "SUM(CASE WHEN type = 'D' THEN 1 ELSE 0 END)"),
        key=("node",),
        comment="Slices of each node: the parts that work in parallel.",
    ),
    kind="snapshot",
    description="Number of slices of every node.",
    sources=("stv_slices",),
    from_clause="FROM stv_slices GROUP BY node",
)
