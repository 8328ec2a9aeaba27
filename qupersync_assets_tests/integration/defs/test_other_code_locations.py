"""Assets of another code location read tables through the IO manager, in a process that imports it alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from qupersync_assets.defs.resources import build_resources
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets_tests.support.integration import Query

OTHER_LOCATION = """
import sys
import dagster as dg
from qupersync_assets.defs.resources import build_resources
from qupersync_assets.settings import Settings

key, metadata = ["quper", sys.argv[1]], {"columns": ["cluster", "node"], "with_removed": len(sys.argv) > 2}

@dg.asset(ins={"nodes": dg.AssetIn(key=key, input_manager_key="postgres_io_manager", metadata=metadata)})
def report(nodes) -> None:
    print("ROWS", sorted(zip(nodes["cluster"].tolist(), nodes["node"].tolist())))

upstream = dg.AssetSpec(key)
dg.materialize([upstream, report], resources=build_resources(Settings.load()))
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OTHER_LOCATION, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_present_rows_are_loaded_unless_all_are_asked_for(
    postgres: PostgresResource, target: Query, tmp_path: Path
) -> None:
    target(
        "INSERT INTO quper.node_details (cluster, node, removed_at) VALUES "
        "('one', 1, NULL), ('one', 2, now()), ('two', 2, NULL), ('two', 3, now())"
    )
    assert "ROWS [('one', 1), ('two', 2)]" in run(tmp_path, "node_details").stdout
    every = run(tmp_path, "node_details", "with_removed").stdout
    assert "ROWS [('one', 1), ('one', 2), ('two', 2), ('two', 3)]" in every


def test_a_table_of_others_is_refused_with_those_there_are(postgres: PostgresResource, tmp_path: Path) -> None:
    done = run(tmp_path, "invoices")
    assert done.returncode != 0
    assert "quper.invoices is none of them" in done.stderr and "quper.node_details" in done.stderr


def test_the_output_of_another_asset_is_refused_with_what_to_change(environment: dict[str, str]) -> None:
    @dg.asset(io_manager_key="postgres_io_manager")
    def invoices() -> int:
        return 1

    resources = dict(build_resources(Settings.load()))
    with pytest.raises(dg.Failure, match="give this asset another io_manager_key"):
        dg.materialize([invoices], resources=resources)
