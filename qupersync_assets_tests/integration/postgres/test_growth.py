"""The cost of a load depends on its own rows, not on those that the tables hold already."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from qupersync_assets.core.errors import SyncError
from qupersync_assets.postgres.loader import LoadResult, load
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync_jobs import node_details, query_history, table_stats, vacuum_history
from qupersync_assets_tests.support.cluster_story import BASE, StorySource
from qupersync_assets_tests.support.integration import Query

OTHERS, ROWS = 20_000, 2_000


def queries(value: int, count: int = ROWS) -> list[dict[str, Any]]:
    """Queries in the order of their start, with equal numbers in each cluster."""
    times = [BASE - timedelta(seconds=count - n) for n in range(count)]
    return [{"query_id": n, "start_time": t, "end_time": t, "elapsed_time_us": value} for n, t in enumerate(times)]


def load_rows(
    postgres: PostgresResource, spec: SyncSpec, cluster: str, rows: list[dict[str, Any]], raw: bool = True
) -> LoadResult:
    source = StorySource(spec, "view", rows, raw)
    return load(postgres, spec, cluster, str(uuid4()), source, logging.getLogger(__name__), timedelta(hours=1))


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "decoded"])
def test_a_cluster_beside_a_larger_one_reads_few_index_entries(
    postgres: PostgresResource, target: Query, raw: bool
) -> None:
    read = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE schemaname = 'quper' AND relname = 'query_history'"
    target(
        "INSERT INTO quper.query_history (cluster, query_id, start_time, end_time) "
        "SELECT 'large', n, %s - n * interval '1 second', %s - n * interval '1 second' FROM generate_series(1, %s) n",
        [BASE, BASE, OTHERS],
    )
    target("ANALYZE quper.query_history")  # the statistics do not know the second cluster
    [(before,)] = target(read)
    for value in (1, 2):
        counts = load_rows(postgres, query_history.SPEC, "new", queries(value), raw).counts
        assert counts.inserted + counts.updated == ROWS
    postgres.dispose()
    # Sessions report what they read when they end.
    while target("SELECT FROM pg_stat_activity WHERE application_name = 'qupersync' AND datname = current_database()"):
        pass
    [(after,)] = target(read)
    assert ROWS <= after - before <= 10 * ROWS


def test_rows_that_were_refused_are_set_aside(postgres: PostgresResource, target: Query) -> None:
    merges: list[str] = []
    sa.event.listen(
        postgres.engine(),
        "before_cursor_execute",
        lambda _c, _k, text, *_: merges.append(text) if "merged AS" in text else None,
    )
    rows = queries(1, 400)
    target("ALTER TABLE quper.query_history ADD CONSTRAINT odd CHECK (query_id % 100 <> 7)")
    for cluster in ("one", "two"):
        first = load_rows(postgres, query_history.SPEC, cluster, rows).counts
        assert (first.skipped, first.batches) == (4, 100)  # none is set aside because of the other cluster
    bisected = len(merges) / 2
    merges.clear()
    again = load_rows(postgres, query_history.SPEC, "one", rows).counts
    assert (again.unchanged, again.skipped) == (396, 4)
    assert 0 < len(merges) < bisected / 2
    target("ALTER TABLE quper.query_history DROP CONSTRAINT odd")
    assert load_rows(postgres, query_history.SPEC, "one", rows).counts.inserted == 4


def test_only_the_last_commit_waits_for_the_disk(postgres: PostgresResource, target: Query) -> None:
    target(
        """
        CREATE TABLE quper.commits (what text, setting text);
        GRANT INSERT ON quper.commits TO qupersync;
        CREATE FUNCTION quper.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO quper.commits VALUES (TG_ARGV[0], current_setting('synchronous_commit')); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER INSERT ON quper.node_details EXECUTE FUNCTION quper.note('batch');
        CREATE TRIGGER note AFTER UPDATE ON quper.sync_logs FOR EACH ROW WHEN (NEW.status = 'success')
            EXECUTE FUNCTION quper.note('end');
        ALTER ROLE qupersync SET synchronous_commit = 'local';
        """
    )
    try:
        postgres.dispose()
        load_rows(postgres, node_details.SPEC, "one", [{"node": n, "used_mb": 1, "capacity_mb": 2} for n in range(8)])
        assert target("SELECT DISTINCT what, setting FROM quper.commits ORDER BY 1") == [
            ("batch", "off"),
            ("end", "local"),
        ]
    finally:
        target("ALTER ROLE qupersync RESET ALL; DROP FUNCTION quper.note CASCADE; DROP TABLE quper.commits")


def test_vacuums_of_a_load_that_failed_at_its_end_are_linked_by_the_next(
    postgres: PostgresResource, target: Query
) -> None:
    target("INSERT INTO quper.table_stats (cluster, database, table_id) VALUES ('one', 'dev', 1), ('two', 'dev', 1)")
    rows = [
        {"xid": xid, "table_id": 1, "status": status, "eventtime": BASE - timedelta(days=3 - xid)}
        for xid in (1, 2)
        for status in ("Started", "Finished")
    ]
    linked = "SELECT cluster, last_vacuum_date FROM quper.table_stats ORDER BY 1"
    load_rows(postgres, vacuum_history.SPEC, "one", rows[:2])
    assert target(linked) == [("one", BASE - timedelta(days=2)), ("two", None)]
    target(
        "ALTER TABLE quper.table_stats ADD CONSTRAINT none CHECK (last_vacuum_date < now() - interval '60 hours') NOT VALID"
    )
    with pytest.raises(SyncError, match="Finishing"):
        load_rows(postgres, vacuum_history.SPEC, "one", rows)
    target("ALTER TABLE quper.table_stats DROP CONSTRAINT none")
    assert load_rows(postgres, vacuum_history.SPEC, "one", rows).counts.inserted == 0
    assert target(linked) == [("one", BASE - timedelta(days=1)), ("two", None)]


def test_tables_of_a_load_that_failed_at_its_end_are_linked_by_the_next(
    postgres: PostgresResource, target: Query
) -> None:
    vacuum = {"xid": 1, "table_id": 1, "status": "Finished", "eventtime": BASE}
    tables = [{"database": "dev", "table_id": number} for number in (1, 2)]
    for cluster in ("one", "two"):
        load_rows(postgres, vacuum_history.SPEC, cluster, [vacuum])
    load_rows(postgres, table_stats.SPEC, "one", tables[1:])
    target("ALTER TABLE quper.table_stats ADD CONSTRAINT none CHECK (last_vacuum_date IS NULL)")
    with pytest.raises(SyncError, match="Finishing"):
        load_rows(postgres, table_stats.SPEC, "one", tables)
    target("ALTER TABLE quper.table_stats DROP CONSTRAINT none")
    assert load_rows(postgres, table_stats.SPEC, "one", tables).counts.inserted == 0
    linked = target("SELECT cluster, table_id, last_vacuum_date FROM quper.table_stats ORDER BY 1, 2")
    assert linked == [("one", 1, BASE), ("one", 2, None)]
