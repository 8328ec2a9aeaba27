"""The plots of the health page, in its order.

The parameters of each SELECT are `cluster` and `now`. Columns that are not drawn are in the table below the plot.
"""

from qupersync_assets.health.report.plots import cluster, tables
from qupersync_assets.health.report.plots.plot import Plot

__all__ = ["PLOTS", "Plot"]

PLOTS = (
    *(cluster.STORAGE, cluster.PHASES, cluster.QUEUEING, cluster.PATTERNS, cluster.USERS, cluster.SPILL),
    *(tables.LARGEST, tables.GROWING, tables.ALERTS, tables.STATISTICS, tables.UNUSED),
)
