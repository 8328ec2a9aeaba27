"""STL and SYS views number queries differently: alerts and metrics are joined to the right query, or say why not."""

from __future__ import annotations

from typing import Any

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets_tests.support.integration import Query, Sync

SCAN_ALERTS = "event ~ '^(Missing query|Very selective|Scanned a large)'"
# A user's statement, and the STL query that executes a part of it.
SYS_QUERY = """INSERT INTO sys_query_history (user_id, query_id, transaction_id, session_id, status, start_time, end_time)
    VALUES (100, %s, %s, 1, 'success', getdate() - %s * interval '1 s', getdate() - %s * interval '1 s')"""
ALERT = """INSERT INTO stl_alert_event_log (userid, query, slice, segment, step, pid, xid, event, solution, event_time)
    VALUES (100, %s, 0, 0, 1, 1, %s, 'Nested Loop Join', 'Review', getdate() - %s * interval '1 s')"""
STL_QUERY = """INSERT INTO stl_query (userid, query, xid, label, starttime, endtime)
    VALUES (100, %s, %s, 'default', getdate() - %s * interval '1 s', getdate() - %s * interval '1 s')"""


@pytest.mark.parametrize("mode", ["provisioned", "serverless"])
def test_alerts_join_their_query_and_their_table(
    filled: Sandbox, sync: Sync, target: Query, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    with Gateway((filled.server.host, filled.server.port), mode=mode) as gateway:
        monkeypatch.setenv("REDSHIFT_PORT", str(gateway.port))
        for cluster in ("one", "two"):
            monkeypatch.setenv("CLUSTER_NAME", cluster)
            assert sync("alert_events", "query_history").success
    alerts, joined, users = target(
        "SELECT count(*), count(q.query_id), count(*) FILTER (WHERE q.user_id = a.userid) FROM quper.alert_events a "
        "LEFT JOIN quper.query_history q USING (cluster, query_id)"
    )[0]
    assert alerts == joined == users > 100
    assert target("SELECT count(DISTINCT event) FROM quper.alert_events WHERE event !~ '[0-9]'") == [(3,)]
    scans = target(f"SELECT table_origin, count(*) FROM quper.alert_events WHERE {SCAN_ALERTS} GROUP BY 1")
    others = target(f"SELECT table_origin, count(*) FROM quper.alert_events WHERE NOT {SCAN_ALERTS} GROUP BY 1")
    assert [origin for origin, _ in scans] == ["step"] and [origin for origin, _ in others] == ["query"]
    texts = target("SELECT position(a.table_name IN q.query_text) > 0, count(*) FROM quper.alert_events a "
                   "JOIN quper.query_history q USING (cluster, query_id) WHERE length(query_text) < 4000 GROUP BY 1")  # fmt: skip
    assert [found for found, _ in texts] == [True]


@pytest.mark.parametrize("logged", [True, False], ids=["stl_query", "without stl_query"])
def test_times_distinguish_the_queries_of_a_transaction(sync: Sync, source: Query, target: Query, logged: bool) -> None:
    # (query, transaction, seconds ago of its start and end)
    sys_queries = [
        (1, 10, 100, 90),  # the first of its transaction
        (2, 10, 80, 70),  # the second
        (3, 20, 100, 50),  # a procedure
        (4, 20, 90, 60),  # its statement
        (5, 30, 100, 50),  # two at the same time
        (6, 30, 100, 50),
        (7, 40, 100, 90),  # long before the alert
        (8, 99, 100, 50),  # of another transaction
        (10, 10, 110, 99),  # it ends when the first alert begins
        (11, 50, 100, None),  # it still runs
        (13, 50, 110, 99),  # before it
    ]
    for row in sys_queries:
        source(SYS_QUERY, row)
    for query, xid, start, end in [(101, 10, 99, 91), (102, 10, 79, 71), (103, 20, 89, 61), (104, 30, 99, 51), (105, 40, 60, 50), (106, 50, 99, 91)]:  # fmt: skip
        source(ALERT, [query, xid, start])
        if logged:
            source(STL_QUERY, [query, xid, start, end])
    assert sync("alert_events").success
    rows = target("SELECT query, query_id, query_match FROM quper.alert_events ORDER BY query")
    assert rows == [
        (101, 1, "unique"),
        (102, 2, "unique"),
        (103, 4, "unique"),
        (104, None, "several"),
        (105, None, "none"),
        (106, 11, "unique"),
    ]
    # A match that is found later replaces none; rows that Redshift deletes do not take it back.
    source(SYS_QUERY, (9, 40, 61, 49))
    # A query that began long before the time from which alerts are read.
    source(SYS_QUERY, (12, 60, 9000, 0))
    source(ALERT, [107, 60, 10])
    assert sync("alert_events").success
    assert target("SELECT query_id FROM quper.alert_events WHERE query = 107") == [(12,)]
    found = "SELECT query_id, query_match FROM quper.alert_events WHERE query = 105"
    assert target(found) == [(9, "unique")]
    source("DELETE FROM sys_query_history")
    assert sync("alert_events").success
    assert target(found) == [(9, "unique")]


def test_metrics_fall_back_to_the_summary_of_stl_queries(
    filled: Sandbox, sync: Sync, source: Query, target: Query
) -> None:
    columns = "query_id, user_id, spilled_local_mb, blocks_read, rows_scanned, rows_returned, nested_loop_rows"
    assert sync("query_metrics").success
    known: dict[int, str] = dict(target(f"SELECT query_id, ({columns})::text FROM quper.query_metrics"))
    source("REVOKE SELECT ON redshift.sys_query_detail FROM qupersync_reader")
    try:
        target("TRUNCATE quper.query_metrics")
        assert sync("query_metrics").success
    finally:
        source("GRANT SELECT ON redshift.sys_query_detail TO qupersync_reader")
    fallback: dict[int, str] = dict(target(f"SELECT query_id, ({columns})::text FROM quper.query_metrics"))
    assert len(fallback) > 300 and fallback.items() == known.items()
    [(views,)] = target("SELECT source FROM quper.sync_logs ORDER BY id DESC LIMIT 1")
    assert views == "svl_query_metrics_summary, stl_query, sys_query_history"


def test_metrics_are_read_incrementally_and_are_complete(
    filled: Sandbox, sync: Sync, source: Query, target: Query
) -> None:
    """A query that runs across the watermark is read whole."""
    source("""INSERT INTO sys_query_detail (user_id, query_id, step_id, step_name, start_time, end_time, input_rows)
        VALUES (100, 7, 0, 'scan', getdate() - interval '3 hours', getdate(), 5)""")
    assert sync("query_metrics").success
    source("""INSERT INTO sys_query_detail (user_id, query_id, step_id, step_name, start_time, end_time, input_rows)
        VALUES (100, 7, 0, 'scan', getdate(), getdate(), 6)""")
    assert sync("query_metrics").success
    assert target("SELECT rows_scanned FROM quper.query_metrics WHERE query_id = 7") == [(11,)]
    mode, extracted, inserted = target(
        "SELECT read_mode, rows_extracted, rows_inserted FROM quper.sync_logs ORDER BY id DESC LIMIT 1"
    )[0]
    assert mode == "incremental" and 0 < extracted < 100 and inserted == 0


def test_own_queries_have_no_metrics(sync: Sync, source: Query, target: Query) -> None:
    for query, label in ((1, "qupersync"), (2, None)):
        source("INSERT INTO sys_query_history (user_id, query_id, query_label, start_time) VALUES (100, %s, %s, getdate())", [query, label])  # fmt: skip
        source("INSERT INTO sys_query_detail (user_id, query_id, step_id, step_name, start_time) VALUES (100, %s, 0, 'scan', getdate())", [query])  # fmt: skip
    assert sync("query_metrics").success
    assert target("SELECT query_id FROM quper.query_metrics") == [(2,)]
