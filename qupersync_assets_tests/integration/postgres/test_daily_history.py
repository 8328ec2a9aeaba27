"""Daily histories: a row per object and day of a change, written with the load; views that fill the days between."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.postgres import retention
from qupersync_assets.postgres.loader import load
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.retention import purge_daily
from qupersync_assets.rows.page import Page, Pages
from qupersync_assets.rows.source_read import SourceParts, SourceRead
from qupersync_assets.spec import SyncSpec, Window
from qupersync_assets.sync_jobs import all_specs, node_details, table_stats
from qupersync_assets_tests.integration.postgres.test_isolation import Parts
from qupersync_assets_tests.support.cluster_story import StorySource, rows
from qupersync_assets_tests.support.integration import Query

DAILY = (
    "SELECT day - %s::date, node, used_mb, removed FROM quper.node_details_daily WHERE cluster = 'one' ORDER BY 1, 2"
)
BY_DAY = "SELECT day - %s::date, node, used_mb FROM quper.node_details_by_day WHERE cluster = 'one' ORDER BY 1, 2"


def today() -> date:
    return datetime.now(UTC).date()


def first() -> date:
    return today() - timedelta(days=30)


class Rows:
    """A source whose rows are one page each; `fault` is called before the last page."""

    def __init__(
        self, columns: tuple[str, ...], rows: list[tuple[Any, ...]], fault: Callable[[], object] | None = None
    ) -> None:
        self.columns, self.rows, self.fault = columns, rows, fault

    @contextmanager
    def open(self, window: Window) -> Iterator[SourceRead]:
        yield SourceRead("rows", window, datetime.now(UTC), "", self.pages())

    def pages(self) -> Pages:
        for number, row in enumerate(self.rows, 1):
            if self.fault and number == len(self.rows):
                self.fault()
            yield Page(self.columns, [row])


def nodes(
    postgres: PostgresResource,
    day: date,
    used: dict[Any, int],
    cluster: str = "one",
    fault: Callable[[], object] | None = None,
) -> None:
    source = Rows(("node", "used_mb", "capacity_mb"), [(node, mb, 1000) for node, mb in used.items()], fault)
    log, lookback = logging.getLogger(__name__), timedelta(hours=1)
    load(postgres, node_details.SPEC, cluster, str(uuid4()), source, log, lookback, day=day)


def test_thirty_days_are_one_row_per_change(postgres: PostgresResource, target: Query) -> None:
    nodes(postgres, first(), {0: 1}, "two")
    for number in range(31):
        nodes(postgres, first() + timedelta(days=number), {0: 100 + number // 10, 1: 7})
    assert target(DAILY, [first()]) == [
        *[(0, 0, 100, False), (0, 1, 7, False)],
        *[(10 * ten, 0, 100 + ten, False) for ten in (1, 2, 3)],
    ]
    growth = target(
        "SELECT day, used_mb FROM quper.node_details_by_day WHERE cluster = 'one' AND node = 0 ORDER BY day"
    )
    assert growth == [(first() + timedelta(days=n), 100 + n // 10) for n in range(31)]
    assert target("SELECT count(*) FROM quper.node_details_by_day WHERE cluster = 'two'") == [(1,)]


def test_a_day_is_updated_while_it_lasts_and_unchanged_ticks_write_nothing(
    postgres: PostgresResource, target: Query
) -> None:
    for used in (1, 2, 2):
        nodes(postgres, first(), {0: used})
    versions = "SELECT ctid, xmin FROM quper.node_details_daily"
    assert target(DAILY, [first()]) == [(0, 0, 2, False)]
    before = target(versions)
    for day in (first(), first() + timedelta(days=1)):
        nodes(postgres, day, {0: 2})
    assert target(versions) == before


def test_removed_and_restored_objects(postgres: PostgresResource, target: Query) -> None:
    for number, used in enumerate([{0: 1, 1: 5}, {0: 1}, {0: 1}, {0: 1, 1: 5}]):
        nodes(postgres, first() + timedelta(days=number), used)
    assert target(DAILY, [first()]) == [(0, 0, 1, False), (0, 1, 5, False), (1, 1, 5, True), (3, 1, 5, False)]
    assert target(BY_DAY, [first()]) == [(0, 0, 1), (0, 1, 5), (1, 0, 1), (2, 0, 1), (3, 0, 1), (3, 1, 5)]


def test_a_day_that_was_not_read_is_missing(postgres: PostgresResource, target: Query) -> None:
    for number in (0, 1, 5):
        nodes(postgres, first() + timedelta(days=number), {0: number})
    assert target(BY_DAY, [first()]) == [(0, 0, 0), (1, 0, 1), (5, 0, 5)]


def test_a_failed_load_loses_no_change(postgres: PostgresResource, target: Query) -> None:
    def fail() -> None:
        raise SyncError("cut", ErrorClass.FATAL)

    nodes(postgres, first(), {0: 1, 1: 5})
    with pytest.raises(SyncError, match="cut"):
        nodes(postgres, first(), {0: 2, 1: 6}, fault=fail)
    assert target("SELECT used_mb FROM quper.node_details ORDER BY node") == [(2,), (5,)]  # one page is committed
    assert target(DAILY, [first()]) == [(0, 0, 1, False), (0, 1, 5, False)]
    nodes(postgres, first(), {0: 2, 1: 5})
    assert target(DAILY, [first()]) == [(0, 0, 2, False), (0, 1, 5, False)]


def test_removals_that_a_replaced_session_missed_are_written_by_the_next_load(
    postgres: PostgresResource, target: Query
) -> None:
    ended: list[object] = []

    def end_session() -> None:
        ended.extend(target("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"))

    second, complete = first() + timedelta(days=1), "SELECT is_complete FROM quper.snapshot_days ORDER BY day"
    nodes(postgres, first(), {0: 1, 1: 5, 2: 6})
    nodes(postgres, second, {0: 2, 2: 7}, fault=end_session)
    assert ended == [(True,)]
    assert target(DAILY + " OFFSET 3", [second]) == [(0, 0, 2, False), (0, 2, 7, False)]
    assert target(complete) == [(True,), (False,)]
    nodes(postgres, second, {0: 2, 2: 7})
    assert target(DAILY + " OFFSET 3", [second]) == [(0, 0, 2, False), (0, 1, 5, True), (0, 2, 7, False)]
    assert target(complete) == [(True,), (True,)]


def test_an_empty_read_is_no_read(postgres: PostgresResource, target: Query) -> None:
    nodes(postgres, first(), {0: 1})
    nodes(postgres, first() + timedelta(days=1), {})
    assert target(BY_DAY, [first()]) == [(0, 0, 1)]


def test_a_day_with_skipped_rows_is_marked(postgres: PostgresResource, target: Query) -> None:
    nodes(postgres, first(), {0: 1, 1: 2})
    nodes(postgres, first() + timedelta(days=1), {0: 1, "x": 2})
    complete = "SELECT day - %s::date, node, is_complete FROM quper.node_details_by_day ORDER BY 1, 2"
    assert target(complete, [first()]) == [(0, 0, True), (0, 1, True), (1, 0, False), (1, 1, False)]


@pytest.mark.parametrize("is_read", [True, False], ids=["with a skipped row", "not read"])
def test_a_day_without_all_rows_of_one_database_is_marked(
    postgres: PostgresResource, target: Query, is_read: bool
) -> None:
    class Broken(StorySource):
        def _pages(self) -> Pages:
            raise SyncError("cut", ErrorClass.FATAL)

    spec, log = table_stats.SPEC, logging.getLogger(__name__)
    whole = StorySource(spec, "view", rows(spec, 0, 1, "a"), raw=True, database="a")
    kind = StorySource if is_read else Broken
    partly = kind(spec, "view", rows(spec, 1, 0, "b"), raw=True, database="b")  # one of its keys is NULL
    source = Parts(SourceParts({"a": whole, "b": partly}, existing=frozenset("ab")))
    load(postgres, spec, "one", "run", source, log, timedelta(hours=1), day=first())
    assert target("SELECT status, rows_skipped FROM quper.sync_logs") == [("success", 1) if is_read else ("partial", 0)]
    assert target("SELECT is_complete FROM quper.snapshot_days") == [(False,)]


def test_old_days_are_deleted_except_what_later_days_refer_to(postgres: PostgresResource, target: Query) -> None:
    for cluster in ("one", "two"):
        for number in range(31):
            used = {0: number, 1: 7} if number < 9 else {0: number, 2: 1} if number == 9 else {0: number}
            nodes(postgres, first() + timedelta(days=number), used, cluster)
    kept = "SELECT * FROM quper.node_details_by_day WHERE day >= %s ORDER BY 1, 2, 3"
    other = "SELECT * FROM quper.node_details_daily WHERE cluster = 'two' ORDER BY 2, 3"
    before, second = target(kept, [today() - timedelta(days=10)]), target(other)
    specs = [node_details.SPEC, table_stats.SPEC]
    counted = purge_daily(postgres, "one", specs, 10, dry_run=True)
    assert purge_daily(postgres, "one", specs, None) == {}
    assert purge_daily(postgres, "one", specs, 10) == counted
    assert counted["quper.node_details_daily"] > 15 and counted["quper.snapshot_days"] == 20
    assert target(kept, [today() - timedelta(days=10)]) == before and target(other) == second


DAILY_SPECS = [spec for spec in all_specs() if spec.daily]


@pytest.mark.parametrize("spec", DAILY_SPECS, ids=lambda spec: spec.sync_job_id)
def test_the_kept_days_of_each_object_do_not_change(postgres: PostgresResource, target: Query, spec: SyncSpec) -> None:
    """Objects of two clusters differ in one column of the key each, and change on other days."""
    assert spec.daily
    keys, table = ["cluster", *spec.daily.key], spec.daily.table.fullname
    pairs = ", ".join(f"(VALUES ('1'), ('2')) AS v{n} (k{n})" for n in range(len(keys)))
    values = ", ".join(f"k{n}::{spec.table.c[name].type.compile()}" for n, name in enumerate(keys))
    target(
        f"SELECT setseed(0.5); INSERT INTO {table} ({', '.join(keys)}, day, removed) "
        f"SELECT {values}, %s::date + n, random() < 0.2 FROM {pairs}, generate_series(0, 30) AS n WHERE random() < 0.3",
        [first()],
    )
    target(
        "INSERT INTO quper.snapshot_days (cluster, table_name, day, last_read_at, is_complete) "
        "SELECT c, %s, %s::date + n, now(), true FROM unnest(ARRAY['1', '2']) c, generate_series(0, 30) n",
        [spec.table.name, first()],
    )
    shown = f"SELECT * FROM quper.{spec.daily.view.name} WHERE day >= %s OR cluster = '2' ORDER BY 1, 2, 3, 4, 5"
    kept = today() - timedelta(days=10)
    before, other = target(shown, [kept]), target(f"SELECT * FROM {table} WHERE cluster = '2' ORDER BY 1, 2, 3, 4")
    counted = purge_daily(postgres, "1", DAILY_SPECS, 10, dry_run=True)
    assert purge_daily(postgres, "1", DAILY_SPECS, 10) == counted and counted[table] > 5
    assert target(shown, [kept]) == before
    assert target(f"SELECT * FROM {table} WHERE cluster = '2' ORDER BY 1, 2, 3, 4") == other
    # Of an object that was there, one older row is left at most: none if it changed on the first kept day.
    older = (
        f"SELECT count(*), bool_or(removed) FROM {table} WHERE cluster = '1' AND day < %s GROUP BY {', '.join(keys)}"
    )
    assert set(target(older, [kept])) == {(1, False)}
    changed = f"SELECT {', '.join(keys)} FROM {table} WHERE day {{}} %s AND cluster = '1'"
    assert not set(target(changed.format("<"), [kept])) & set(target(changed.format("="), [kept]))


def test_a_removed_object_does_not_appear_again_while_its_rows_are_deleted(
    postgres: PostgresResource, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 1)
    # The newest row is stored first, and so deleted first among equals.
    target(
        "INSERT INTO quper.node_details_daily (cluster, node, day, removed) "
        "SELECT 'one', 1, %s::date - n, n = 1 FROM generate_series(1, 5) n",
        [first()],
    )
    nodes(postgres, today(), {0: 1})
    left = []

    def delete_once(*arguments: Any) -> int:
        left.append(target("SELECT count(*) FROM quper.node_details_by_day WHERE node = 1"))
        return delete(*arguments)

    delete = retention.delete_in_batches
    monkeypatch.setattr(retention, "delete_in_batches", delete_once)
    assert purge_daily(postgres, "one", [node_details.SPEC], 10)["quper.node_details_daily"] == 5
    assert left == 3 * [[(0,)]]


def test_scans_of_a_table_are_summed_by_day(postgres: PostgresResource, target: Query) -> None:
    def stats(day: date, size: int) -> None:
        known = {"database": "d", "schema": "s", "size_mb": size}
        rows = [known | {"table_id": 7, "table_name": "t"}, known | {"table_id": 8, "table_name": "u", "size_mb": 1}]
        columns = tuple(column.name for column in table_stats.SPEC.columns)
        source = Rows(columns, [tuple(row.get(name) for name in columns) for row in rows])
        log, lookback = logging.getLogger(__name__), timedelta(hours=1)
        load(postgres, table_stats.SPEC, "one", str(uuid4()), source, log, lookback, day=day)

    def scans(cluster: str, day: date, hour: int, count: int) -> None:
        target(
            "INSERT INTO quper.table_scan_stats (cluster, table_id, scan_hour, scans) VALUES (%s, 7, %s, %s)",
            [cluster, f"{day} {hour}:00+00", count],
        )

    tomorrow = first() + timedelta(days=1)
    stats(first(), 1)
    scans("one", first(), 10, 3)
    scans("two", first(), 10, 50)
    stats(first(), 1)
    scans("one", first(), 23, 4)  # read after the last load of the day
    scans("one", tomorrow, 1, 5)
    stats(tomorrow, 1)
    found = "SELECT day - %s::date, table_id, size_mb, scans FROM quper.table_stats_by_day ORDER BY 1, 2"
    assert target(found, [first()]) == [(0, 7, 1, 7), (0, 8, 1, 0), (1, 7, 1, 5), (1, 8, 1, 0)]
