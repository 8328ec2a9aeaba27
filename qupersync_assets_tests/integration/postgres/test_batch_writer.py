"""Batches: their counts, failed batches, and lost sessions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from qupersync_assets.postgres.advisory_lock import JobConnection
from qupersync_assets.postgres.batch_writer import BatchWriter
from qupersync_assets.rows.coercion import transform
from qupersync_assets.rows.page import Page
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.integration import Query, Sync


@pytest.mark.parametrize("rows", [0, 1, 999, 1000, 1001, 2000])
def test_all_sizes_around_the_batch_size_are_loaded(
    sync: Sync, source: Query, target: Query, logged: Callable[..., Any], rows: int
) -> None:
    source("INSERT INTO stv_node_storage_capacity SELECT n, n, 5000 FROM generate_series(1, %s) n", [rows])
    assert sync("node_details").success
    assert logged("node_details_sync") == (rows, rows, 0, 0, 0, 0, -(-rows // 1000), "success")
    assert target("SELECT count(*), coalesce(sum(used_mb), 0) FROM quper.node_details") == [
        (rows, rows * (rows + 1) // 2)
    ]


def test_the_newest_row_of_a_key_is_kept_within_and_across_batches(
    sync: Sync, source: Query, target: Query, logged: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_BATCH_SIZE", "10")
    source(
        "INSERT INTO sys_query_history (user_id, query_id, status, start_time) "
        "SELECT 100, n % 15, 'v' || n, getdate() - interval '1 hour' + n * interval '1 second' "
        "FROM generate_series(29, 0, -1) n UNION ALL "
        "SELECT 100, 99, 'twice' || n, getdate() + n * interval '1 second' FROM generate_series(0, 1) n"
    )
    newest = sorted([(n, f"v{n + 15}") for n in range(15)] + [(99, "twice1")])
    for expected in ((32, 16, 14, 1, 1), (32, 0, 0, 31, 1)):
        assert sync("query_history").success
        log = logged("query_history_sync")
        assert target("SELECT query_id, status FROM quper.query_history ORDER BY 1") == newest
        assert log[0] == expected[0] == sum(log[1:6])
        assert log[1] == expected[1]
        assert log[4] == expected[4]
    assert log[2] == 0  # the older row of a key does not replace the newer one


def test_new_and_changed_rows_among_known_rows(
    sync: Sync, source: Query, target: Query, logged: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_BATCH_SIZE", "10")
    source("INSERT INTO stv_node_storage_capacity SELECT n, n, 5000 FROM generate_series(1, 40) n")
    assert sync("node_details").success
    source("DELETE FROM stv_node_storage_capacity WHERE node = 38")
    assert sync("node_details").success  # it gets a removed_at
    versions = target("SELECT node, xmin::text, xmax::text FROM quper.node_details WHERE node < 30 ORDER BY 1")
    source("INSERT INTO stv_node_storage_capacity VALUES (38, 38, 5000), (99, 99, 5000)")
    source("UPDATE stv_node_storage_capacity SET used = 777 WHERE node IN (15, 39)")
    assert sync("node_details").success
    assert logged("node_details_sync") == (41, 1, 3, 37, 0, 0, 5, "success")
    assert target("SELECT node, used_mb FROM quper.node_details WHERE node IN (15, 38, 39, 99) ORDER BY 1") == [
        *((15, 777), (38, 38), (39, 777), (99, 99))
    ]
    assert target("SELECT count(*) FROM quper.node_details WHERE removed_at IS NOT NULL") == [(0,)]
    # Known rows of batches after the first are not locked.
    now = target("SELECT node, xmin::text, xmax::text FROM quper.node_details WHERE node < 30 ORDER BY 1")
    assert [row for row in versions if row[0] > 20] == [row for row in now if row[0] > 20]


def test_a_failed_batch_is_rolled_back_and_earlier_batches_stay(
    sync: Sync, source: Query, target: Query, logged: Callable[..., Any]
) -> None:
    assert sync("node_details").success
    target(
        "CREATE FUNCTION quper.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF new.node = 2500 THEN RAISE EXCEPTION 'no more' USING ERRCODE = '42000'; END IF; "
        "RETURN new; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON quper.node_details FOR EACH ROW EXECUTE FUNCTION quper.refuse()"
    )
    source("INSERT INTO stv_node_storage_capacity SELECT n, n, 9000 FROM generate_series(1, 5000) n")
    assert not sync("node_details").success
    assert logged("node_details_sync") == (2000, 2000, 0, 0, 0, 0, 2, "failed")
    assert target("SELECT count(*), max(node) FROM quper.node_details") == [(2000, 2000)]
    assert target("SELECT error FROM quper.sync_logs ORDER BY id DESC LIMIT 1")[0][0].count("no more") == 1
    target("DROP TRIGGER refuse ON quper.node_details")
    assert sync("node_details").success
    assert logged("node_details_sync") == (5000, 3000, 0, 2000, 0, 0, 5, "success")


def test_a_killed_session_loses_no_row(
    sandbox: Sandbox, sync: Sync, source: Query, target: Query, logged: Callable[..., Any]
) -> None:
    assert sync("node_details").success
    # Each batch waits for this lock; meanwhile its session is terminated.
    source("INSERT INTO stv_node_storage_capacity SELECT n, n, 9000 FROM generate_series(1, 3000) n")
    killed: list[Any] = []
    with closing(sandbox.connect_quper()) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE quper.node_details IN SHARE ROW EXCLUSIVE MODE")

        def kill() -> None:
            with closing(sandbox.connect_quper()) as killer, killer.cursor() as kill_cursor:
                killer.autocommit = True
                while not killed:
                    kill_cursor.execute(
                        "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE wait_event_type = 'Lock' AND query LIKE '%merged%'"
                    )
                    killed.extend(kill_cursor.fetchall())
                    time.sleep(0.05)
            blocker.rollback()

        thread = threading.Thread(target=kill)
        thread.start()
        result = sync("node_details")
        thread.join()
    assert killed and killed[0][1] is True
    assert result.success
    assert logged("node_details_sync") == (3000, 3000, 0, 0, 0, 0, 3, "success")


@pytest.mark.parametrize("kills", [1, 99])
def test_a_session_killed_before_its_copy_is_replaced(
    sandbox: Sandbox,
    sync: Sync,
    source: Query,
    target: Query,
    logged: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    kills: int,
) -> None:
    monkeypatch.setattr("qupersync_assets.postgres.batch_writer.RETRY_SECONDS", 0.1)
    source("INSERT INTO stv_node_storage_capacity SELECT n, n, 9000 FROM generate_series(1, 1500) n")
    killed: list[int] = []

    def kill(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if "TEMPORARY TABLE" in statement and len(killed) < kills:
            pid = connection.connection.dbapi_connection.get_backend_pid()
            assert target("SELECT pg_terminate_backend(%s)", [pid]) == [(True,)]
            time.sleep(0.1)
            killed.append(pid)

    sa.event.listen(sa.Engine, "after_cursor_execute", kill)
    try:
        result = sync("node_details")
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", kill)
    if kills == 1:
        assert len(killed) == 1 and result.success
        assert logged("node_details_sync") == (1500, 1500, 0, 0, 0, 0, 2, "success")
    else:
        assert (
            len(killed) == 10 and not result.success
        )  # five attempts of the batch in each of two attempts of the step
        assert logged("node_details_sync") == (0, 0, 0, 0, 0, 0, 0, "failed")
        assert target("SELECT attempts, error LIKE %s FROM quper.sync_logs", ["%connection%"]) == [(2, True)]


@pytest.mark.parametrize("text", ["\r", "a\rb", "a\r", "\n", "a\r\nb", "\t", "\\", "\\.", "\\N", "\\r"])
def test_a_text_with_one_special_character_arrives(engine: sa.Engine, target: Query, text: str) -> None:
    spec = next(s for s in all_specs() if s.table.name == "applications")
    values = {"application_name": text, "first_seen": "2026-01-01", "last_seen": "2026-01-01"}
    # A decoded page, without another text that needs an escape.
    page = Page(tuple(c.name for c in spec.columns), [[values.get(c.name, "1") for c in spec.columns]])
    for cluster in ("one", "two"):
        with closing(JobConnection(engine, cluster, spec.sync_job_id)) as connection:
            assert BatchWriter(connection, spec, lambda *_: None).write(page) == ()
    assert target("SELECT cluster, application_name FROM quper.applications ORDER BY 1") == [
        ("one", text),
        ("two", text),
    ]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(0, 12)),
            st.one_of(st.none(), TEXT),
            st.one_of(st.none(), st.integers(-(2**64), 2**64)),
        ),
        max_size=30,
    )
)
def test_the_counts_of_any_page_add_up_and_the_target_equals_it(engine: sa.Engine, rows: list[tuple[Any, ...]]) -> None:
    spec = next(s for s in all_specs() if s.table.name == "query_history")
    names = [c.name for c in spec.columns]
    page = Page(
        tuple(names),
        [[{"query_id": k, "query_text": t, "returned_rows": n}.get(name) for name in names] for k, t, n in rows],
    )
    with engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE quper.query_history"))
    connection_of_job = JobConnection(engine, "c", spec.sync_job_id)
    writer = BatchWriter(connection_of_job, spec, lambda *_: None)
    writer.write(page)
    counts = writer.counts
    assert counts.extracted == len(rows) == counts.upserted + counts.duplicates + counts.skipped
    fits = {
        k: (t and t.replace("\0", ""), n) for k, t, n in rows if k is not None and (n is None or -(2**63) <= n < 2**63)
    }
    with engine.connect() as connection:
        loaded = connection.execute(sa.text("SELECT query_id, query_text, returned_rows FROM quper.query_history"))
        assert {k: (t, n) for k, t, n in loaded} == fits
    before = counts.upserted
    writer.write(Page(page.columns, transform(spec, page)[0]))
    assert writer.counts.unchanged == len(fits)
    assert writer.counts.upserted == before + len(fits)
    connection_of_job.close()
