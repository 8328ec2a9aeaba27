"""The loader: from any source into a table, without Dagster and without Redshift."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.postgres.loader import LoadResult, load
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.rows.page import Page, Pages
from qupersync_assets.rows.source_read import SourceRead, SourceUnavailable
from qupersync_assets.spec import ReadMode, Window
from qupersync_assets.sync_jobs.node_details import SPEC
from qupersync_assets.sync_jobs.query_history import SPEC as QUERIES
from qupersync_assets_tests.support.integration import Query

COLUMNS = ("node", "used_mb", "capacity_mb")
LOG = logging.getLogger(__name__)
LOOKBACK = timedelta(hours=1)


@dataclass
class ListSource:
    """A source whose pages are lists of rows; an exception in place of a list is raised."""

    pages: Sequence[Sequence[Sequence[Any]] | Exception]
    columns: tuple[str, ...] = COLUMNS
    windows: list[Window] = field(default_factory=list)
    closed: int = 0

    @contextmanager
    def open(self, window: Window) -> Iterator[SourceRead]:
        self.windows.append(window)
        try:
            yield SourceRead("a list", window, datetime(2026, 11, 1, tzinfo=UTC), "", self._pages())
        finally:
            self.closed += 1

    def _pages(self) -> Pages:
        for page in self.pages:
            if isinstance(page, Exception):
                raise page
            yield Page(self.columns, page)


def load_list(postgres: PostgresResource, source: Any, cluster: str = "one", spec: Any = SPEC) -> LoadResult:
    return load(postgres, spec, cluster, str(uuid4()), source, LOG, LOOKBACK)


def test_two_lists_are_loaded(postgres: PostgresResource, target: Query) -> None:
    source = ListSource([[(0, 1, 10), (1, 2, 10)], [(2, 3, 10), ("x", 4, 10)]])
    result = load_list(postgres, source)
    counts = result.counts
    assert result.status is SyncStatus.SUCCESS and result.read is not None
    assert (counts.extracted, counts.inserted, counts.skipped, counts.batches) == (4, 3, 1, 2)
    assert counts.extracted == counts.upserted + counts.duplicates + counts.skipped
    assert [(row.column, row.reason) for row in result.samples] == [("node", "not a number")]
    assert target("SELECT cluster, node, used_mb FROM quper.node_details ORDER BY node") == [
        ("one", 0, 1),
        ("one", 1, 2),
        ("one", 2, 3),
    ]
    assert target("SELECT status, source, read_mode, rows_extracted, rows_upserted FROM quper.sync_logs") == [
        ("success", "a list", "full", 4, 3)
    ]
    assert source.closed == 1


def test_clusters_do_not_touch_each_other(postgres: PostgresResource, target: Query) -> None:
    load_list(postgres, ListSource([[(0, 1, 10)]]), "one")
    load_list(postgres, ListSource([[(0, 5, 10)], [(1, 6, 10)]]), "two")
    result = load_list(postgres, ListSource([[(1, 7, 10)]]), "one")
    assert result.counts.removed == 1
    assert target(
        "SELECT cluster, node, used_mb, removed_at IS NULL FROM quper.node_details ORDER BY cluster, node"
    ) == [("one", 0, 1, False), ("one", 1, 7, True), ("two", 0, 5, True), ("two", 1, 6, True)]


def test_stale_rows_are_closed_in_the_own_cluster_only(postgres: PostgresResource, target: Query) -> None:
    target(
        "INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at) "
        "SELECT cluster, 'node_details_sync', 'earlier', 'running', now() FROM unnest(ARRAY['one', 'two']) cluster"
    )
    load_list(postgres, ListSource([[(0, 1, 10)]]), "one")
    assert target("SELECT cluster, status FROM quper.sync_logs WHERE run_id = 'earlier' ORDER BY cluster") == [
        ("one", "failed"),
        ("two", "running"),
    ]


def test_a_failed_read_keeps_committed_batches(postgres: PostgresResource, target: Query) -> None:
    error = SyncError("The connection failed.", ErrorClass.TRANSIENT)
    source = ListSource([[(0, 1, 10)], error])
    with pytest.raises(SyncError, match="The connection failed"):
        load_list(postgres, source)
    assert target("SELECT node FROM quper.node_details") == [(0,)]
    assert target("SELECT status, rows_extracted, error FROM quper.sync_logs") == [
        ("failed", 1, "The connection failed.")
    ]
    assert source.closed == 1


def test_a_cluster_without_a_source_is_unavailable(postgres: PostgresResource, target: Query) -> None:
    class NoSource:
        @contextmanager
        def open(self, window: Window) -> Iterator[SourceRead]:
            raise SourceUnavailable("no view")
            yield

    result = load_list(postgres, NoSource())
    assert (result.status, result.reason, result.read) == (SyncStatus.UNAVAILABLE, "no view", None)
    log = "SELECT status, error, read_mode, read_reason, read_from FROM quper.sync_logs"
    assert target(log) == [("unavailable", "no view", None, None, None)]


def test_a_history_is_read_incrementally_the_second_time(postgres: PostgresResource) -> None:
    names = tuple(column.name for column in QUERIES.columns)
    now = datetime.now(UTC)
    row = [{"query_id": 1, "start_time": now, "status": "success"}.get(name) for name in names]
    source = ListSource([[row]], names)
    for _ in range(2):
        load_list(postgres, source, spec=QUERIES)
    load_list(postgres, source, "two", QUERIES)
    assert [window.mode for window in source.windows] == [ReadMode.FULL, ReadMode.INCREMENTAL, ReadMode.FULL]
    assert source.windows[2].reason == "the target table is empty"  # that of this cluster
    assert source.windows[1].since == now - LOOKBACK


def test_the_loader_imports_no_dagster() -> None:
    code = "import sys, qupersync_assets.postgres.loader; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"dagster", "redshift_connector", "typer"} & set(done.stdout.split())
