"""Hostile values and rows beyond those of integration/sync_jobs/test_hostile_sources.py.

PostgreSQL refuses NUL and lone surrogates in texts; the unit tests of the coercion cover them. Redshift can send
invalid UTF-8 where it truncates a text within a character; a fault of the gateway creates it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from qupersync_assets_tests.faults.conftest import NODES, Check, SetFault
from qupersync_assets_tests.support.integration import Materialize, Query

Logged = Callable[[str], tuple[Any, ...]]


@pytest.mark.parametrize("statement", ["SELECT chr(0)", "SELECT U&'\\D800'"])
def test_postgresql_refuses_nul_and_lone_surrogates(source: Query, statement: str) -> None:
    with pytest.raises(psycopg2.Error):
        source(statement)


# Offset of query_text in the first row of the response if only it, the key and the start are not NULL.
QUERY_TEXT = 104


def test_invalid_utf8_costs_one_character(
    fault: SetFault, materialize: Materialize, source: Query, target: Query, logged: Logged, converges: Check
) -> None:
    source(
        "INSERT INTO sys_query_history (user_id, query_id, start_time, query_text) "
        "SELECT 100, n, getdate() - interval '1 hour' + n * interval '1 second', repeat('a', 100) "
        "FROM generate_series(1, 3) n"
    )
    # The flipped bit turns the letter into the first byte of an incomplete character.
    flipped = fault("corrupt", "FETCH", after=QUERY_TEXT + 50, flip=0x80)
    assert materialize("query_history").success
    assert flipped.fired == 1
    texts = target("SELECT query_text FROM quper.query_history ORDER BY query_id")
    whole = "a" * 100
    assert [text for (text,) in texts] == [texts[0][0], whole, whole]
    assert texts[0][0].count("\ufffd") == 1 and len(texts[0][0]) == 100
    assert logged("query_history_sync") == (3, 3, 0, 0, 0, 0, 1, "success")
    converges("query_history")


@pytest.fixture
def long_texts(source: Query) -> Iterator[None]:
    """Let the source contain longer texts than Redshift allows."""
    source("ALTER TABLE sys_query_history ALTER query_text TYPE text")
    yield
    source("TRUNCATE sys_query_history; ALTER TABLE sys_query_history ALTER query_text TYPE character(4000)")


def test_long_and_unusual_texts_are_loaded(
    long_texts: None, materialize: Materialize, source: Query, target: Query, logged: Logged, sound: Check
) -> None:
    texts = [
        "select '" + "x" * 14_000_000 + "ż" * 1_000_000 + "'",  # 16 MB
        "\u200fשָׁלוֹם\u202e مرحبا \u2066abc\u2069",  # right to left, marks and overrides
        "e\u0301 é \ufeff \ufffd \uffff \U0010ffff 👩‍👩‍👧‍👦",  # combining, not a character, joined
        "\\.\n\\.",  # end of data in old versions of COPY
        "\x01\x07\x1b[31m\x7f\x85\u2028",
        "",
        "\\N",
    ]
    for number, text in enumerate(texts):
        source(
            "INSERT INTO sys_query_history (user_id, query_id, start_time, query_text) VALUES (100, %s, getdate(), %s)",
            [number, text],
        )
    assert materialize("query_history").success
    assert logged("query_history_sync") == (7, 7, 0, 0, 0, 0, 1, "success")
    arrived = target("SELECT query_text FROM quper.query_history ORDER BY query_id")
    assert [text for (text,) in arrived] == texts
    sound()


@pytest.fixture
def in_kolkata(source: Query) -> Iterator[None]:
    """Set different time zones for the sessions of the two users, one with an offset of 5:30 hours."""
    zones = {"qupersync_reader": "Asia/Kolkata", "qupersync": "America/New_York"}
    for role, zone in zones.items():
        source(f"ALTER ROLE {role} SET timezone = '{zone}'")
    assert source("SELECT count(*) FROM pg_catalog.pg_db_role_setting WHERE setconfig::text ~* 'timezone=A'") == [(2,)]
    yield
    for role in zones:
        source(f"ALTER ROLE {role} RESET timezone")


def test_times_are_utc_in_any_session_time_zone(
    in_kolkata: None, materialize: Materialize, source: Query, target: Query, converges: Check
) -> None:
    times = [
        "2026-03-08 02:30:00",  # does not exist in New York
        "2026-11-01 01:30:00",  # exists twice there
        "2026-03-29 01:00:00",
        "1970-01-01 00:00:00",
        "0001-01-02 00:00:00",
        "9999-12-30 23:59:59.999999",
        "1945-10-15 00:00:00",  # Kolkata's clocks were changed
    ]
    for number, time in enumerate(times):
        source(
            "INSERT INTO stl_vacuum (xid, table_id, status, eventtime) VALUES (%s, 1, 'Started', %s)", [number, time]
        )
    source("INSERT INTO sys_query_history (user_id, query_id, start_time) VALUES (100, 1, getdate())")
    assert materialize("vacuum_history", "query_history").success
    arrived = target("SELECT (eventtime AT TIME ZONE 'UTC')::text FROM quper.vacuum_history ORDER BY xid")
    assert [time for (time,) in arrived] == times
    assert target(
        "SELECT abs(extract(epoch FROM q.start_time - l.started_at)) < 60 FROM quper.query_history q, quper.sync_logs l "
        "WHERE l.sync_job_id = 'query_history_sync'"
    ) == [(True,)]
    converges("vacuum_history")
    converges("query_history")


POSITIONS = {"n IN (1, 2000)": 2, "n IN (1000, 1001)": 2, "n > 1000": 1000, "true": 2000}


@pytest.mark.parametrize(("bad", "count"), POSITIONS.items())
def test_invalid_rows_are_skipped_at_any_position(
    materialize: Materialize, source: Query, target: Query, logged: Logged, sound: Check, bad: str, count: int
) -> None:
    source(
        f"INSERT INTO stv_node_storage_capacity SELECT CASE WHEN {bad} THEN NULL ELSE n END, 7 * n, 9000 "
        "FROM generate_series(1, 2000) n"
    )
    for inserted, unchanged in ((2000 - count, 0), (0, 2000 - count)):
        assert materialize("node_details").success
        assert logged("node_details_sync") == (2000, inserted, 0, unchanged, 0, count, 2, "success")
        good = source("SELECT node, used FROM stv_node_storage_capacity WHERE node IS NOT NULL ORDER BY 1")
        assert target("SELECT node, used_mb FROM quper.node_details ORDER BY 1") == good
    assert target("SELECT count(*), min(times_seen), max(times_seen) FROM quper.skipped_rows") == [(count, 2, 2)]
    sound()


def test_a_batch_with_only_refused_rows_is_skipped(
    materialize: Materialize,
    source: Query,
    target: Query,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
    sound: Check,
) -> None:
    monkeypatch.setenv("SYNC_BATCH_SIZE", "200")
    assert materialize("node_details").success
    target("ALTER TABLE quper.node_details ADD CONSTRAINT late CHECK (node > 200)")
    source(NODES, [1, 300])
    assert materialize("node_details").success
    assert logged("node_details_sync") == (300, 100, 0, 0, 0, 200, 2, "success")
    assert target("SELECT min(node), count(*) FROM quper.node_details") == [(201, 100)]
    assert target("SELECT count(*), bool_and(reason LIKE %s) FROM quper.skipped_rows", ["%late%"]) == [(200, True)]
    sound()
