"""The first read of a day is a full read; if it fails, new rows are read meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import pytest

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.postgres.loader import load
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.rows.page import Pages
from qupersync_assets.rows.source_read import SourceRead
from qupersync_assets.spec import ReadMode, Window
from qupersync_assets.sync_jobs.query_history import SPEC
from qupersync_assets_tests.support.cluster_story import BASE, StorySource, raw_page
from qupersync_assets_tests.support.integration import Query, Sync

ROW = {"query_id": 1, "status": "success", "start_time": BASE}
LATER = {"query_id": 2, "status": "success", "start_time": BASE + timedelta(hours=2)}
LOGS = "SELECT status, read_mode FROM quper.sync_logs WHERE cluster = 'one' ORDER BY id"
REFUSED = SyncError("too much data", ErrorClass.FATAL)


@dataclass
class Refusing(StorySource):
    """A source that gives new rows, but no full read."""

    error: BaseException = REFUSED
    is_opened: bool = False

    @contextmanager
    def open(self, window: Window) -> Iterator[SourceRead]:
        if window.mode is ReadMode.FULL and not self.is_opened:
            self.windows.append(window)
            raise self.error
        with super().open(window) as read:
            yield read

    def _pages(self) -> Pages:
        yield raw_page(SPEC, [ROW])
        if self.windows[-1].mode is ReadMode.FULL:
            raise self.error
        yield raw_page(SPEC, [LATER])


def run(postgres: PostgresResource, source: StorySource, cluster: str = "one", run_id: str = "") -> ReadMode:
    """Load; return the mode of the read, whether it succeeds or not."""
    try:
        load(postgres, SPEC, cluster, run_id or str(uuid4()), source, logging.getLogger(), timedelta(hours=1))
    except (SyncError, KeyboardInterrupt) as error:
        assert isinstance(source, Refusing) and error is source.error
    return source.windows[-1].mode


def shift(target: Query, back: str) -> None:
    target(f"UPDATE quper.sync_logs SET started_at = started_at - interval '{back}', "
           f"completed_at = completed_at - interval '{back}'")  # fmt: skip


@pytest.mark.parametrize("is_opened", [False, True], ids=["refused", "broken off"])
@pytest.mark.parametrize("error", [REFUSED, KeyboardInterrupt()], ids=["failed", "canceled"])
def test_a_failed_full_read_does_not_stop_the_history(
    postgres: PostgresResource, target: Query, error: BaseException, is_opened: bool
) -> None:
    full, incremental = ReadMode.FULL, ReadMode.INCREMENTAL
    for cluster in ("one", "two"):
        assert run(postgres, StorySource(SPEC, "view", [ROW], raw=True), cluster) is full
    shift(target, "1 day")
    source = Refusing(SPEC, "view", [], raw=True, error=error, is_opened=is_opened)
    assert [run(postgres, source) for _ in range(3)] == [full, incremental, incremental]
    failed = "failed" if error is REFUSED else "canceled"
    assert target(LOGS) == [("success", "full"), (failed, "full"), *2 * [("success", "incremental")]]
    assert target("SELECT query_id FROM quper.query_history WHERE cluster = 'one' ORDER BY 1") == [(1,), (2,)]
    # The failure is of one cluster. It is tried again, and a success is repeated on the next day only.
    assert run(postgres, StorySource(SPEC, "view", [ROW], raw=True), "two") is full
    shift(target, "1 hour")
    target("UPDATE quper.sync_logs SET started_at = now() + interval '1 day' WHERE read_mode = 'incremental'")
    assert run(postgres, source) is full
    shift(target, "1 hour")
    complete = StorySource(SPEC, "view", [ROW, LATER], raw=True)
    assert run(postgres, complete) is full
    target("UPDATE quper.sync_logs SET started_at = now() + interval '1 day' WHERE status = 'success'")
    assert run(postgres, complete) is incremental


def test_another_source_is_read_completely_unless_the_last_load_failed(
    sync: Sync, source: Query, target: Query
) -> None:
    source("INSERT INTO sys_query_history (query_id, status, start_time) VALUES (1, 'success', getdate())")
    assert sync("query_history").success and sync("query_history").success
    target("UPDATE quper.sync_logs SET started_at = now() + interval '1 day'")
    read = "SELECT read_mode, read_reason FROM quper.sync_logs ORDER BY id DESC LIMIT 1"
    failed = "UPDATE quper.sync_logs SET status = 'failed' WHERE id = (SELECT max(id) FROM quper.sync_logs)"
    source("ALTER TABLE sys_connection_log RENAME TO renamed")
    try:
        target(failed)
        assert sync("query_history").success
        assert target(read) == [("incremental", "new rows since the last sync")]
    finally:
        source("ALTER TABLE renamed RENAME TO sys_connection_log")
    assert sync("query_history").success
    assert target(read) == [("full", "the source is not that of the last sync")]


def test_a_read_that_is_wider_than_planned_is_logged_also_if_it_fails(
    postgres: PostgresResource, target: Query
) -> None:
    class Widening(Refusing):
        @contextmanager
        def open(self, window: Window) -> Iterator[SourceRead]:
            with super().open(window._replace(mode=ReadMode.FULL)) as read:
                yield read

    run(postgres, StorySource(SPEC, "view", [ROW], raw=True))
    target("UPDATE quper.sync_logs SET started_at = now() + interval '1 day'")
    run(postgres, Widening(SPEC, "other view", [], raw=True, is_opened=True))
    assert target(LOGS) == [("success", "full"), ("failed", "full")]


def test_a_second_attempt_without_a_read_has_no_counts_of_the_first(postgres: PostgresResource, target: Query) -> None:
    broken = Refusing(SPEC, "view", [], raw=True, is_opened=True)
    for cluster in ("two", "one"):
        run(postgres, broken, cluster, "run")
    counts = "SELECT cluster, attempts, rows_extracted, rows_inserted, batches, source FROM quper.sync_logs ORDER BY 1"
    assert target(counts) == [("one", 1, 1, 1, 1, "view"), ("two", 1, 1, 1, 1, "view")]
    run(postgres, Refusing(SPEC, "view", [], raw=True), "one", "run")
    assert target(counts) == [("one", 2, 0, 0, 0, None), ("two", 1, 1, 1, 1, "view")]


def test_a_second_attempt_runs_without_the_end_and_the_error_of_the_first(
    postgres: PostgresResource, target: Query
) -> None:
    class Looking(StorySource):
        def _pages(self) -> Pages:
            self.seen = target("SELECT status, attempts, completed_at, error, source FROM quper.sync_logs")
            yield from super()._pages()

    run(postgres, Refusing(SPEC, "view", [], raw=True, is_opened=True), run_id="run")
    second = Looking(SPEC, "view", [ROW], raw=True)
    run(postgres, second, run_id="run")
    assert second.seen == [("running", 2, None, None, None)]


def test_a_failed_incremental_read_does_not_postpone_the_full_read(postgres: PostgresResource, target: Query) -> None:
    source = StorySource(SPEC, "view", [ROW], raw=True)
    assert run(postgres, source) is ReadMode.FULL
    target("UPDATE quper.sync_logs SET started_at = now() + interval '1 day'")
    assert run(postgres, source) is ReadMode.INCREMENTAL
    target("UPDATE quper.sync_logs SET status = 'failed' WHERE read_mode = 'incremental'")
    target("UPDATE quper.sync_logs SET started_at = now() - interval '1 day' WHERE read_mode = 'full'")
    assert run(postgres, source) is ReadMode.FULL
