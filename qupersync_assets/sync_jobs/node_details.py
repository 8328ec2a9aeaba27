"""quper.node_details: space of each node, from stv_node_storage_capacity."""

from sqlalchemy import BigInteger, Integer

from qupersync_assets.spec import SyncSpec, column, daily_history, quper_table

TABLE = quper_table(
    "node_details",
    column("node", Integer, "number of the node, from 0"),
    column("used_mb", BigInteger, "used space, in MB; on RA3 nodes the sum of cache and managed storage", "used"),
    column("capacity_mb", BigInteger, "total space, in MB; on RA3 nodes the quota of the whole cluster", "capacity"),
    key=("node",),
    comment="Space of each node, as stv_node_storage_capacity shows it.",
)

SPEC = SyncSpec(
    sync_job_id="node_details_sync",
    table=TABLE,
    kind="snapshot",
    description="Used and total space of every node.",
    sources=("stv_node_storage_capacity",),
    from_clause="FROM stv_node_storage_capacity",
    daily=daily_history(TABLE, key=("node",), kept=("used_mb", "capacity_mb")),
)
