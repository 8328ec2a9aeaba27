"""An invalid row is skipped alone, and recorded with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from qupersync_assets_tests.support.integration import Materialize, Query, Sync


def add_queries(source: Query, *rows: str) -> None:
    source(
        "INSERT INTO sys_query_history (user_id, query_id, status, start_time, end_time, query_text) "
        f"SELECT * FROM (VALUES {', '.join(rows)}) AS v (a, b, c, d, e, f)"
    )


def good(query_id: int) -> str:
    return f"(100, {query_id}::bigint, 'success', getdate(), getdate(), 'select 1')"


def test_only_invalid_rows_are_skipped(sync: Sync, source: Query, target: Query, logged: Callable[..., Any]) -> None:
    add_queries(
        source,
        *(good(i) for i in range(1, 8)),
        "(100, NULL, 'success', getdate(), NULL, 'null key')",
        "(100, 9, 'success', 'infinity', NULL, 'infinite start')",
        "(100, 10, 'success', getdate(), 'infinity', 'infinite end')",
        "(100, 11, 'success', '10000-01-01', NULL, 'far future')",
        "(100, 12, 'success', getdate(), '0044-03-15 BC', 'long ago')",
    )
    result = sync("query_history")
    assert result.success
    assert logged("query_history_sync") == (12, 7, 0, 0, 0, 5, 1, "success")
    skipped = target("SELECT row ->> 'query_text', column_name, reason FROM quper.skipped_rows ORDER BY 1")
    assert [(text, column) for text, column, _ in skipped] == [
        ("far future", "start_time"),
        ("infinite end", "end_time"),
        ("infinite start", "start_time"),
        ("long ago", "end_time"),
        ("null key", "query_id"),
    ]
    assert all(reason for *_, reason in skipped)


def test_a_row_that_is_skipped_again_increases_a_counter(sync: Sync, source: Query, target: Query) -> None:
    add_queries(source, good(1), "(100, 2, 'running', getdate(), 'infinity', 'a')")
    for text in ("a", "b", "c"):
        source("UPDATE sys_query_history SET query_text = %s WHERE query_id = 2", [text])
        assert sync("query_history").success
    rows = target("SELECT times_seen, row ->> 'query_text', last_seen > first_seen FROM quper.skipped_rows")
    assert rows == [(3, "c", True)]


def test_only_rows_that_postgres_refuses_are_skipped(
    sync: Sync, source: Query, target: Query, logged: Callable[..., Any]
) -> None:
    assert sync("node_details").success
    target("ALTER TABLE quper.node_details ADD CONSTRAINT not_full CHECK (used_mb < 100)")
    source(
        "INSERT INTO stv_node_storage_capacity SELECT n, CASE WHEN n % 250 = 3 THEN 100 ELSE n % 90 END, 500 "
        "FROM generate_series(1, 1500) n"
    )
    assert sync("node_details").success
    assert logged("node_details_sync") == (1500, 1494, 0, 0, 0, 6, 2, "success")
    reasons = target("SELECT (row ->> 'node')::int, reason FROM quper.skipped_rows ORDER BY 1")
    assert [node for node, _ in reasons] == [3, 253, 503, 753, 1003, 1253]
    assert all("not_full" in reason for _, reason in reasons)
    assert target("SELECT count(*) FROM quper.node_details") == [(1494,)]


@pytest.mark.parametrize(
    ("bad", "good", "severity"),
    [(0, 10, None), (1, 99, dg.AssetCheckSeverity.WARN), (1, 9, dg.AssetCheckSeverity.ERROR)],
)
def test_the_severity_of_the_check_depends_on_the_share(
    materialize: Materialize, source: Query, bad: int, good: int, severity: dg.AssetCheckSeverity | None
) -> None:
    source("INSERT INTO stv_node_storage_capacity SELECT n, 1, 2 FROM generate_series(1, %s) n", [good])
    source("INSERT INTO stv_node_storage_capacity SELECT NULL, 1, n FROM generate_series(1, %s) n", [bad])
    result = materialize("node_details")
    assert result.success  # a skipped row never fails the run
    (check,) = [c for c in result.get_asset_check_evaluations() if c.check_name == "no_skipped_rows"]
    assert check.passed == (severity is None)
    if severity is not None:
        assert check.severity == severity
        assert check.metadata["rows_skipped"].value == bad
        assert "NULL in a key column" in str(check.metadata["samples"].value)


def test_a_source_column_with_another_type_is_coerced_row_by_row(sync: Sync, source: Query, target: Query) -> None:
    source("ALTER TABLE stv_node_storage_capacity ALTER used TYPE text")
    try:
        source(
            "INSERT INTO stv_node_storage_capacity VALUES (0, '9223372036854775807', 1), (1, 'full', 1), "
            "(2, '9223372036854775808', 1), (3, '12', 1)"
        )
        assert sync("node_details").success
        assert target("SELECT node, used_mb FROM quper.node_details ORDER BY 1") == [(0, 2**63 - 1), (3, 12)]
        assert target("SELECT row ->> 'node', reason FROM quper.skipped_rows ORDER BY 1") == [
            ("1", "not a number"),
            ("2", "out of range for bigint"),
        ]
    finally:
        source(
            "TRUNCATE stv_node_storage_capacity; "
            "ALTER TABLE stv_node_storage_capacity ALTER used TYPE integer USING used::integer"
        )
