"""Assets downstream get a target table as a DataFrame, exact, with the columns that they ask for."""

from __future__ import annotations

import dagster as dg
import pandas as pd
import pytest

from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import IO_MANAGER_KEY
from qupersync_assets.settings import Settings
from qupersync_assets_tests.support.integration import Materialize, Query


def downstream(columns: list[str] | None) -> pd.DataFrame:
    """What an asset over quper.query_history is given."""
    seen = {}

    @dg.asset(
        ins={
            "queries": dg.AssetIn(
                key=["quper", "query_history"],
                input_manager_key=IO_MANAGER_KEY,
                metadata={"columns": columns} if columns else None,
            )
        }
    )
    def report(queries: pd.DataFrame) -> None:
        seen["frame"] = queries

    resources = build_definitions(Settings.load()).resources or {}
    upstream = dg.AssetSpec(["quper", "query_history"])
    dg.materialize([upstream, report], resources=dict(resources))
    return seen["frame"]


def test_values_are_exact_and_columns_are_selected(materialize: Materialize, source: Query) -> None:
    source(
        "INSERT INTO sys_query_history (user_id, query_id, start_time, returned_rows, result_cache_hit) VALUES "
        "(100, 9223372036854775807, getdate(), NULL, true), (100, 9007199254740993, getdate(), 7, NULL)"
    )
    assert materialize("query_history").success
    frame = downstream(["query_id", "returned_rows", "result_cache_hit", "start_time"])
    assert list(frame) == ["query_id", "returned_rows", "result_cache_hit", "start_time"]
    frame = frame.sort_values("query_id")
    assert list(frame["query_id"]) == [2**53 + 1, 2**63 - 1]
    assert list(frame["returned_rows"]) == [7, pd.NA]
    assert str(frame["start_time"].dtype) == "datetime64[us, UTC]"
    assert "synced_at" in downstream(None)


def test_an_empty_table_keeps_its_types(materialize: Materialize) -> None:
    assert materialize("query_history").success
    frame = downstream(None)
    assert len(frame) == 0 and str(frame["query_id"].dtype) == "Int64"


def test_an_unknown_column_is_reported(materialize: Materialize) -> None:
    assert materialize("query_history").success
    with pytest.raises(ValueError, match=r"no column nonsense; it has cluster"):
        downstream(["nonsense"])
