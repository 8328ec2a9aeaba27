"""Hostile rows in the sources of optional jobs: each valid row is loaded unchanged, each invalid one is recorded."""

from __future__ import annotations

import pytest

from qupersync_assets_tests.integration.sync_jobs.test_hostile_sources import TEXT
from qupersync_assets_tests.support.integration import Query, Sync

JOBS = "table_recommendations", "load_errors", "analyze_history", "wlm_rules", "locks", "materialized_views"
ROWS = [
    # Two with the same statement but for its end; one without a type.
    f"""INSERT INTO svv_alter_table_recommendations VALUES ('sortkey', 'd', 1, -1, {TEXT}, 't'), ('sortkey', 'd', 1, -1, {TEXT} || '.', 'f'),
        (NULL, 'd', 1, 1, 'x', 't')""",
    # No file, line, column and place; all of them; one without a query.
    f"""INSERT INTO sys_load_error_detail (query_id, start_time, file_name, line_number, column_name, position, error_message)
        VALUES (1, getdate(), NULL, NULL, NULL, NULL, NULL), (1, getdate(), {TEXT}, 9223372036854775807, left({TEXT}, 127), 0, {TEXT}),
               (NULL, getdate(), 'f', 1, 'c', 1, 'e')""",
    # The same line of another file, and another place in it.
    """INSERT INTO sys_load_error_detail (query_id, start_time, file_name, line_number, column_name, position)
        VALUES (2, getdate(), 'f', 1, 'c', 1), (2, getdate(), 'g', 1, 'c', 1), (2, getdate(), 'g', 1, 'c', 2)""",
    # Flags as documented and as in the documentation's example, and unknown ones; equal names in two schemas.
    """INSERT INTO svv_mv_info VALUES ('d', 's', 'u', 'v', 't', 1, 't', '0'), ('d', 't', 'u', 'v', 'f', 1, '1', 'f'),
        ('d', 'u', 'u', 'v', 'u', 1, '', NULL)""",
    # Good; NaN is not a number of rows; no table.
    """INSERT INTO sys_analyze_history (transaction_id, table_id, start_time, rows, is_automatic)
       VALUES (1, 1, getdate(), 1e300, 't'), (2, 1, getdate(), 'NaN', 'f'), (3, NULL, getdate(), 1, NULL)""",
    f"""INSERT INTO stv_wlm_qmr_config VALUES (100, left({TEXT}, 200), 'log', 'm', '>', 0.1, NULL), (100, 'r', 'log', 'm', '>', 'infinity', '')""",
    f"""INSERT INTO svv_transactions VALUES ({TEXT}, {TEXT}, 1, 1, getdate(), 'ExclusiveLock', 'transactionid', NULL, true),
        (NULL, NULL, 1, 1, getdate(), 'AccessShareLock', 'relation', 2147483647, false),
        ('qupersync_reader', 'd', 2, 2, getdate(), 'AccessShareLock', 'relation', 1, true)""",
]


@pytest.mark.parametrize("include_self", ["false", "true"])
def test_valid_rows_are_loaded_and_invalid_ones_recorded(
    sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch, include_self: str
) -> None:
    monkeypatch.setenv("SYNC_JOBS", ",".join(f"{job}_sync" for job in JOBS))
    monkeypatch.setenv("SYNC_INCLUDE_SELF", include_self)
    monkeypatch.setenv("SYNC_MAX_SKIPPED_RATIO", "1")
    for rows in ROWS:
        source(rows)
    assert sync().success
    (text,) = source(f"SELECT rtrim(({TEXT})::char(900))")[0]
    assert target("SELECT ddl, auto_eligible FROM quper.table_recommendations ORDER BY ddl_md5 = md5(ddl), 2") == [
        (f"{text} .", False),
        (text, True),
    ]
    errors = target(
        "SELECT file_name, line_number, column_name, position, error_message FROM quper.load_errors "
        "WHERE query = 1 ORDER BY 2"
    )
    assert errors == [(None, -1, "", -1, None), (text, 2**63 - 1, text[:127].rstrip(), 0, text)]
    assert target("SELECT file_name, position FROM quper.load_errors WHERE query = 2 ORDER BY 1, 2") == [
        *(("f", 1), ("g", 1), ("g", 2))
    ]
    flags = target("SELECT schema_name, is_stale, autorewrite, autorefresh FROM quper.materialized_views ORDER BY 1")
    assert flags == [("s", True, True, False), ("t", False, True, False), ("u", None, None, None)]
    assert target("SELECT transaction_id, rows, is_automatic FROM quper.analyze_history") == [(1, 1e300, True)]
    assert target("SELECT rule_name, metric_value FROM quper.wlm_rules") == [(text[:200].rstrip(), 0.1)]
    own = [("qupersync_reader", 1, True)] if include_self == "true" else []
    locks = target("SELECT user_name, table_id, granted FROM quper.locks ORDER BY table_id")
    assert locks == [(text, 0, True), *own, (None, 2147483647, False)]
    skipped = target("SELECT sync_job_id, column_name FROM quper.skipped_rows ORDER BY 1, 2")
    assert skipped == [
        ("analyze_history_sync", "rows"),
        ("analyze_history_sync", "table_id"),
        ("load_errors_sync", "query"),
        ("table_recommendations_sync", "type"),
        ("wlm_rules_sync", "metric_value"),
    ]
