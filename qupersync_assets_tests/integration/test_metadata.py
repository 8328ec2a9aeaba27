"""What a materialization tells: the same numbers each time, also when there is nothing to tell."""

from __future__ import annotations

import dagster as dg

from .conftest import Query, Sync


def told(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_counts_time_table_and_statement(sync: Sync, source: Query) -> None:
    empty = told(sync("node_details"))
    source("INSERT INTO stv_node_storage_capacity VALUES (0, 1, 9), (1, 2, 9), (1, 3, 9), (NULL, 4, 9)")
    first = told(sync("node_details"))
    source("UPDATE stv_node_storage_capacity SET used = 5 WHERE node = 0")
    second = told(sync("node_details"))
    assert empty.keys() == first.keys() == second.keys()
    assert {name: type(value) for name, value in empty.items()} == {n: type(v) for n, v in second.items()}
    numbers = ("extracted", "upserted", "inserted", "updated", "unchanged", "duplicate", "skipped")
    assert [empty[f"rows_{n}"] for n in numbers] == [0, 0, 0, 0, 0, 0, 0]
    assert [first[f"rows_{n}"] for n in numbers] == [4, 2, 2, 0, 0, 1, 1]
    assert [second[f"rows_{n}"] for n in numbers] == [4, 2, 0, 1, 1, 1, 1]
    assert second["dagster/row_count"] == 2 and second["dagster/table_name"] == "quper.node_details"
    assert second["duration_ms"] > 0 and second["rows_per_second"] > 0  # type: ignore[operator]
    assert str(second["statement"]).startswith("```sql\nSELECT")
