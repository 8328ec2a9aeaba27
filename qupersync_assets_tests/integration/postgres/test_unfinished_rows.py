"""Queries and loads that have not ended are read again by key, until they end or Redshift no longer lists them."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from qupersync_assets.postgres.loader import load
from qupersync_assets.postgres.mutable_rows import MAX_MUTABLE_KEYS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync_jobs import all_specs, query_history
from qupersync_assets_tests.support.cluster_story import BASE, StorySource
from qupersync_assets_tests.support.integration import Query, Sync

QUERY = "INSERT INTO sys_query_history (user_id, query_id, status, start_time, end_time) VALUES (100, %s, %s, %s, %s)"
HELD = "SELECT query_id, status FROM quper.query_history WHERE cluster = 'sandbox' ORDER BY 1"
MUTABLE = [spec for spec in all_specs() if spec.mutable_where]


def load_rows(
    postgres: PostgresResource, spec: SyncSpec, statuses: dict[int, str], cluster: str = "one"
) -> StorySource:
    """Load rows with these statuses."""
    rows = [{"query_id": n, "status": s, "start_time": BASE - timedelta(minutes=n)} for n, s in statuses.items()]
    source = StorySource(spec, "view", sorted(rows, key=lambda row: str(row["start_time"])), raw=True)
    load(postgres, spec, cluster, str(uuid4()), source, logging.getLogger(__name__), timedelta(hours=1))
    return source


@pytest.mark.parametrize("spec", MUTABLE, ids=lambda spec: spec.sync_job_id)
def test_a_row_that_redshift_no_longer_lists_is_unknown(
    postgres: PostgresResource, target: Query, spec: SyncSpec
) -> None:
    held = f"SELECT cluster, query_id, status FROM {spec.table.fullname} ORDER BY 1, 2"
    for cluster in ("two", "one"):
        load_rows(postgres, spec, {1: "running", 2: "running", 3: "running"}, cluster)
    ended = (spec.table.name == "query_history" and "success") or "completed"
    load_rows(postgres, spec, {1: "running", 3: ended})
    other = [("two", n, "running") for n in (1, 2, 3)]
    assert target(held) == [("one", 1, "running"), ("one", 2, "unknown"), ("one", 3, ended), *other]
    [window] = load_rows(postgres, spec, {1: "running"}).windows
    assert window.mutable_keys == (1,)
    load_rows(postgres, spec, {1: "running", 2: ended})  # Redshift lists it again
    assert target(held)[1] == ("one", 2, ended)


def test_a_query_that_does_not_end_is_stale_until_it_ends(sync: Sync, source: Query, target: Query) -> None:
    assert sync("query_history").success
    for query_id in (1, 2):
        target(
            "INSERT INTO quper.query_history (cluster, query_id, user_id, status, start_time) "
            "VALUES ('sandbox', %s, 100, 'running', %s)",
            [query_id, BASE - timedelta(days=8)],
        )
    source(QUERY, [1, "running", (BASE - timedelta(days=8)).replace(tzinfo=None), None])
    for updated in (1, 0):
        assert sync("query_history").success
        assert target(HELD) == [(1, "stale"), (2, "unknown")]
        assert target("SELECT rows_updated FROM quper.sync_logs ORDER BY id DESC LIMIT 1") == [(updated,)]
    source("UPDATE sys_query_history SET status = 'success', end_time = getdate()")
    assert sync("query_history").success
    assert target(HELD) == [(1, "success"), (2, "unknown")]


@pytest.mark.parametrize("end", [None, "getdate() + interval '1 day'"], ids=["no end", "a late end"])
def test_a_query_that_runs_for_days_makes_no_other_job_read_days(
    sync: Sync, source: Query, target: Query, end: Any
) -> None:
    source(QUERY.replace("%s)", f"{end or 'NULL'})"), [9, "running", (BASE - timedelta(days=4)).replace(tzinfo=None)])
    source("INSERT INTO stl_alert_event_log (query, slice, segment, step, event, event_time) "
           "VALUES (1, 0, 0, 0, 'slow', %s)", [BASE.replace(tzinfo=None)])  # fmt: skip
    assert sync("query_history").success and sync("alert_events").success
    target("UPDATE quper.sync_logs SET started_at = now() + interval '1 day'")
    assert sync("alert_events").success
    read = "SELECT read_mode, read_from FROM quper.sync_logs ORDER BY id DESC LIMIT 1"
    assert target(read) == [("incremental", BASE - timedelta(hours=1) - query_history.SHORT)]


def test_the_newest_of_many_unfinished_queries_are_read_again(postgres: PostgresResource, target: Query) -> None:
    spec, count = query_history.SPEC, MAX_MUTABLE_KEYS + 5
    load_rows(postgres, spec, {1: "running"}, "two")
    target(
        "INSERT INTO quper.query_history (cluster, query_id, status, start_time) "
        "SELECT 'one', n, 'running', %s - n * interval '1 minute' FROM generate_series(1, %s) n",
        [BASE, count],
    )
    [window] = load_rows(postgres, spec, dict.fromkeys(range(1, 3), "running")).windows
    assert window.mutable_keys == tuple(range(1, MAX_MUTABLE_KEYS + 1))
    # Those that were not asked for keep their status; an old one will never be asked for.
    counted = "SELECT status, count(*) FROM quper.query_history WHERE cluster = 'one' GROUP BY 1 ORDER BY 1"
    assert target(counted) == [("running", 7), ("unknown", MAX_MUTABLE_KEYS - 2)]


def test_a_user_who_sees_only_own_queries_makes_none_unknown(
    sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(QUERY, [1, "running", BASE.replace(tzinfo=None), None])
    assert sync("query_history").success
    monkeypatch.setenv("REDSHIFT_USER", "qupersync_ordinary")
    assert sync("query_history").success
    assert target("SELECT rows_extracted FROM quper.sync_logs ORDER BY id") == [(1,), (0,)]
    assert target(HELD) == [(1, "running")]
