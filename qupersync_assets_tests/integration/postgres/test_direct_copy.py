"""Direct copy loads pages of new or of known rows; all other pages are merged."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from qupersync_assets.core.errors import SyncError
from qupersync_assets.postgres import batch_writer
from qupersync_assets.postgres.advisory_lock import JobConnection
from qupersync_assets.postgres.batch_writer import BatchWriter
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.rows.page import RawPage
from qupersync_assets.settings import Settings
from qupersync_assets.spec import FULL_READ, select_statement
from qupersync_assets.sync_jobs.query_history import SPEC
from qupersync_assets_tests.support.integration import Query, Sync

COUNTS = "rows_extracted, rows_inserted, rows_updated, rows_unchanged, rows_duplicate, rows_skipped"


@pytest.fixture
def merged() -> Iterator[list[str]]:
    """Collect the merge statements."""
    found: list[str] = []

    def listen(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if "merged" in statement:
            found.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", listen)
    yield found
    sa.event.remove(sa.Engine, "before_cursor_execute", listen)


@pytest.fixture(autouse=True)
def pages_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_BATCH_SIZE", "10")


@pytest.fixture
def queries(source: Query) -> Callable[[str], None]:
    """Add queries with the given numbers, one per second."""

    def add(numbers: str) -> None:
        source(
            "INSERT INTO sys_query_history (user_id, query_id, status, start_time, query_text) "
            "SELECT 100, n, 'success', getdate() - interval '1 hour' + n * interval '1 second', 'q' || n "
            f"FROM {numbers} n"
        )

    return add


def counts(target: Query) -> tuple[Any, ...]:
    return target(f"SELECT {COUNTS} FROM quper.sync_logs ORDER BY id DESC LIMIT 1")[0]


def test_pages_of_new_rows_and_of_known_rows_are_not_merged(
    sync: Sync, source: Query, target: Query, queries: Callable[[str], None], merged: list[str]
) -> None:
    queries("generate_series(1, 40)")
    assert sync("query_history").success
    assert (counts(target), merged) == ((40, 40, 0, 0, 0, 0), [])
    versions = target("SELECT query_id, xmin::text, xmax::text, ctid FROM quper.query_history ORDER BY 1")
    assert sync("query_history").success
    assert (counts(target), merged) == ((40, 0, 0, 40, 0, 0), [])
    assert versions == target("SELECT query_id, xmin::text, xmax::text, ctid FROM quper.query_history ORDER BY 1")
    source("UPDATE sys_query_history SET status = 'failed' WHERE query_id = 15")
    queries("generate_series(41, 60)")
    assert sync("query_history").success
    assert counts(target) == (60, 20, 1, 39, 0, 0)
    assert len(merged) == 1  # the page of the changed row
    assert target("SELECT status, count(*) FROM quper.query_history GROUP BY 1 ORDER BY 1") == [
        ("failed", 1),
        ("success", 59),
    ]


def test_a_page_of_known_and_new_rows_is_merged(
    sync: Sync, target: Query, queries: Callable[[str], None], merged: list[str]
) -> None:
    queries("generate_series(1, 15)")
    assert sync("query_history").success
    queries("generate_series(16, 20)")
    assert sync("query_history").success
    assert (counts(target), len(merged)) == ((20, 5, 0, 15, 0, 0), 1)


def test_a_known_key_at_another_time_is_merged(
    sync: Sync, source: Query, target: Query, queries: Callable[[str], None], merged: list[str]
) -> None:
    queries("generate_series(1, 20)")
    assert sync("query_history").success
    # The target has no rows at the new times, so the page seems to be new.
    source("UPDATE sys_query_history SET start_time = start_time + interval '30 minutes' WHERE query_id > 10")
    assert sync("query_history").success
    assert (counts(target), len(merged)) == ((20, 0, 10, 10, 0, 0), 1)
    assert target("SELECT count(*), max(start_time) - min(start_time) > '30 minutes' FROM quper.query_history") == [
        (20, True)
    ]


def test_further_rows_of_the_target_do_not_matter(
    sync: Sync, source: Query, target: Query, queries: Callable[[str], None], merged: list[str]
) -> None:
    queries("generate_series(1, 200)")
    assert sync("query_history").success
    source("DELETE FROM sys_query_history WHERE query_id % 2 = 1")
    assert sync("query_history").success
    assert (counts(target), merged) == ((100, 0, 0, 100, 0, 0), [])
    source("DELETE FROM sys_query_history WHERE query_id % 20 <> 0")
    # Now the times of a page span too many rows for a comparison.
    assert sync("query_history").success
    assert (counts(target), len(merged)) == ((10, 0, 0, 10, 0, 0), 1)
    assert target("SELECT count(*) FROM quper.query_history") == [(200,)]


@pytest.mark.parametrize("column", ["start_time", "end_time"])
def test_only_rows_with_times_beyond_python_are_skipped(
    sync: Sync, source: Query, target: Query, queries: Callable[[str], None], column: str
) -> None:
    queries("generate_series(1, 20)")
    source(f"UPDATE sys_query_history SET {column} = 'infinity' WHERE query_id = 5")
    assert sync("query_history").success
    assert counts(target) == (20, 19, 0, 0, 0, 1)
    assert target("SELECT column_name FROM quper.skipped_rows") == [(column,)]


def test_rows_without_a_time_are_merged(
    sync: Sync, source: Query, target: Query, queries: Callable[[str], None], merged: list[str]
) -> None:
    queries("generate_series(1, 10)")
    source("UPDATE sys_query_history SET start_time = NULL WHERE query_id > 7")
    for expected in ((10, 10, 0, 0, 0, 0), (10, 0, 0, 10, 0, 0)):
        assert sync("query_history").success
        assert counts(target) == expected
    assert len(merged) == 2


def test_each_cluster_has_its_own_rows(
    sync: Sync, target: Query, queries: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    queries("generate_series(1, 10)")
    for cluster in ("one", "two, 'ü'"):
        monkeypatch.setenv("CLUSTER_NAME", cluster)
        assert sync("query_history").success
        assert counts(target) == (10, 10, 0, 0, 0, 0)
    assert sync("query_history").success
    assert counts(target) == (10, 0, 0, 10, 0, 0)
    assert target("SELECT cluster, count(*) FROM quper.query_history GROUP BY 1 ORDER BY 1") == [
        ("one", 10),
        ("two, 'ü'", 10),
    ]


def test_the_same_row_twice_is_a_duplicate(
    sync: Sync, source: Query, target: Query, queries: Callable[[str], None]
) -> None:
    queries("generate_series(1, 9)")
    source("INSERT INTO sys_query_history SELECT * FROM sys_query_history WHERE query_id = 5")
    for expected in ((10, 9, 0, 0, 1, 0), (10, 0, 0, 9, 1, 0)):
        assert sync("query_history").success
        assert counts(target) == expected


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_row_with_too_few_values_is_not_filled_from_the_next(
    environment: dict[str, str],
    engine: sa.Engine,
    queries: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    broken: int,
) -> None:
    monkeypatch.setattr(batch_writer, "RETRY_SECONDS", 0.01)
    queries("generate_series(1, 3)")
    redshift = RedshiftResource(Settings.load().by_cluster()["sandbox"])
    with redshift.session() as session:
        (page,) = session.pages(select_statement(SPEC, SPEC.variants[0], set(), FULL_READ, False), 10)
    assert isinstance(page, RawPage)
    bodies = list(page.bodies)
    bodies[broken] = bodies[broken].removesuffix(struct.pack("!i", -1))
    assert bodies != page.bodies  # the last value was NULL
    with (
        closing(JobConnection(engine, "c", SPEC.sync_job_id)) as target,
        pytest.raises(SyncError, match="cannot be decoded"),
    ):
        BatchWriter(target, SPEC, lambda *_: None).write(replace(page, bodies=bodies))
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM quper.query_history")) == 0
