"""Steps of statements: the views of queries agree with each other."""

from __future__ import annotations

import random
from datetime import datetime

import pytest

from qupersync_assets.sandbox.warehouse.catalog import LiveTable
from qupersync_assets.sandbox.workload.steps import step_rows

TABLE = LiveTable(1, "sales", "orders", 100)


@pytest.mark.parametrize(
    ("text", "has_steps"), [("delete from sales.orders", True), ("delete from sales.dropped", False)]
)
def test_a_statement_has_rows_in_all_views_of_queries_or_in_none(text: str, has_steps: bool) -> None:
    start = datetime(2026, 3, 1)
    statement = {
        **{"user_id": 100, "query_id": 7, "transaction_id": 8, "session_id": 9, "query_type": "DELETE"},
        **{"status": "success", "result_cache_hit": False, "start_time": start, "end_time": start, "planning_time": 1},
        **{"query_text": text, "returned_rows": 0, "elapsed_time": 1, "execution_time": 1, "queue_time": 0},
        **{"compile_time": 0, "lock_wait_time": 0, "service_class_id": 1, "database_name": "dev", "query_label": "x"},
    }
    found = step_rows(random.Random(1), statement, 5, [TABLE])
    assert {view: bool(found[view]) for view in ("sys_query_detail", "stl_query", "svl_query_metrics_summary")} == {
        "sys_query_detail": has_steps,
        "stl_query": has_steps,
        "svl_query_metrics_summary": has_steps,
    }
