"""`python -m benchmarks.qupersync_load [--full-refresh]`: loads query_history with its asset and IO manager.

Prints JSON: `seconds` of the Dagster run, `work` seconds of the load itself, and the counts. With `--idle` it
runs an empty asset instead.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import dagster as dg

import qupersync_assets.forkserver_preload  # noqa: F401 - as in the process that forks the steps
from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import JOB_NAME
from qupersync_assets.settings import Settings


@dg.asset
def nothing() -> None:
    """An empty asset."""


def main() -> None:
    """Load in this process."""
    if "--idle" in sys.argv:
        assert dg.materialize([nothing]).success
        return
    job = build_definitions(Settings.load()).resolve_job_def(JOB_NAME)
    key = dg.AssetKey(["quper", "query_history"])
    config = {"full_refresh": "--full-refresh" in sys.argv}
    with dg.DagsterInstance.ephemeral() as instance:
        began = time.monotonic()
        result = job.execute_in_process(
            asset_selection=[key],
            run_config={"ops": {key.to_python_identifier(): {"config": config}}},
            instance=instance,
        )
        seconds = time.monotonic() - began
    assert result.success
    (event,) = result.asset_materializations_for_node(key.to_python_identifier())
    metadata: dict[str, Any] = {name: value.value for name, value in event.metadata.items()}
    counts = {name: value for name, value in metadata["counts"].items() if name.startswith("rows_")}
    print(json.dumps({"seconds": seconds, "work": metadata["duration of the load in seconds"], **counts}))


if __name__ == "__main__":
    main()
