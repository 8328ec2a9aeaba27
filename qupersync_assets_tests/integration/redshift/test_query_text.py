"""SYNC_QUERY_TEXT: whether literals of statements reach PostgreSQL or Dagster."""

from __future__ import annotations

import dagster as dg
import pytest

from qupersync_assets_tests.support.integration import Materialize, Query, Sync

# A literal for each path.
LOADED, CUT, SAID, UNQUOTED = "Zqfull", "Zqcut", "Zqsaid", "Zqunquoted"
REJECTED, NO_KEY, REFUSED, DEFAULT = "Zqrejected", "Zqnokey", "Zqrefused", "Zqdefault"
MARKS = [LOADED, CUT, SAID, UNQUOTED, REJECTED, NO_KEY, REFUSED, DEFAULT, "907856"]


def add_query(source: Query, text: str, error: str | None = None, **values: object) -> None:
    row = {
        "query_id": 1,
        "user_id": 100,
        "status": "failed" if error else "success",
        "end_time": "now",
        "user_query_hash": "hash 1",
        **values,
        "query_text": text,
        "error_message": error,
    }
    source(
        f"INSERT INTO sys_query_history (start_time, {', '.join(row)}) "
        f"VALUES (getdate(), {', '.join(['%s'] * len(row))})",
        list(row.values()),
    )


@pytest.fixture
def statements(sync: Sync, source: Query, target: Query) -> None:
    """Rows that are loaded, rows that are not, and a target that refuses one of them."""
    assert sync("query_history").success
    target("ALTER TABLE quper.query_history ADD CONSTRAINT not_500 CHECK (user_id <> 500)")
    add_query(source, f"SELECT * FROM customers WHERE name = '{LOADED}' OR id IN (907856, $1) -- {LOADED}")
    add_query(source, f"SELECT name FROM customers WHERE name = '{CUT} and so", query_id=2)
    add_query(source, "SELECT name::int FROM a1", f"Invalid digit, Value '{SAID}', Pos 907856", query_id=3)
    add_query(source, f"CALL check('{UNQUOTED}')", f"No customer {UNQUOTED}", query_id=4)
    rejected = f"INSERT INTO a2 VALUES ('{REJECTED}')", f'value too long: "{REJECTED}"'
    add_query(source, *rejected, query_id=5, end_time="infinity")
    add_query(source, f"DELETE FROM a3 WHERE b = '{REFUSED}'", f"'{REFUSED}' is wrong", query_id=6, user_id=500)
    source(
        "INSERT INTO svv_columns (table_catalog, table_schema, table_name, column_name, column_default) "
        "VALUES ('dev', 's', 't', 'c', %s)",
        [f"'{DEFAULT}'::character varying"],
    )


@pytest.fixture
def without_key(source: Query) -> None:
    add_query(source, f"UPDATE a4 SET b = '{NO_KEY}'", f"'{NO_KEY}' is wrong", query_id=None)


def stored(target: Query) -> str:
    """All rows of the target database, as text."""
    tables = target(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
    )
    assert ("quper.query_history",) in tables and ("quper.skipped_rows",) in tables
    return "\n".join(text for (table,) in tables for (text,) in target(f"SELECT t::text FROM {table} t"))


def logged(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> str:
    """Return all log entries of a run."""
    entries = instance.all_logs(result.run_id)
    assert any("Skipped a row" in entry.user_message for entry in entries)
    return "\n".join(f"{entry} {entry.to_json()}" for entry in entries)


def found(text: str) -> set[str]:
    return {mark for mark in MARKS if mark.lower() in text.lower()}


def test_full_text_is_not_redacted(
    statements: None, without_key: None, materialize: Materialize, target: Query, instance: dg.DagsterInstance
) -> None:
    result = materialize("query_history", "column_stats")
    assert result.success
    assert found(stored(target)) == set(MARKS)
    assert found(logged(instance, result)) == {REFUSED}  # PostgreSQL shows the row that it refuses


@pytest.mark.parametrize("query_text", ["redacted", "none"])
def test_no_literal_is_written(
    statements: None,
    without_key: None,
    materialize: Materialize,
    target: Query,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    query_text: str,
) -> None:
    monkeypatch.setenv("SYNC_QUERY_TEXT", query_text)
    result = materialize("query_history", "column_stats")
    assert result.success
    assert found(stored(target)) == set()
    assert found(logged(instance, result)) == set()
    (rows,) = target("SELECT count(*), count(query_text), count(error_message) FROM quper.query_history")
    (skipped,) = target("SELECT count(*), count(row ->> 'query_text') FROM quper.skipped_rows")
    assert (rows, skipped) == (((4, 0, 0), (3, 0)) if query_text == "none" else ((4, 4, 2), (3, 3)))
    assert target("SELECT DISTINCT user_query_hash, query_hash FROM quper.query_history") == [("hash 1", "hash 1")]


def test_redacted_text_keeps_all_but_literals(
    statements: None, sync: Sync, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_QUERY_TEXT", "redacted")
    assert sync("query_history", "column_stats").success
    assert target("SELECT query_text, error_message FROM quper.query_history ORDER BY query_id") == [
        ("SELECT * FROM customers WHERE name = ? OR id IN (?, $1) -- ?", None),
        ("SELECT name FROM customers WHERE name = ?", None),
        ("SELECT name::int FROM a1", "Invalid digit, Value ?, Pos ?"),
        ("CALL check(?)", "No customer ?"),
    ]
    assert target("SELECT row ->> 'query_text' FROM quper.skipped_rows WHERE column_name = 'end_time'") == [
        ("INSERT INTO a2 VALUES (?)",)
    ]
    assert target("SELECT column_default FROM quper.column_stats") == [("?::character varying",)]


def test_a_stricter_setting_rewrites_rows_that_are_read_again(
    statements: None, sync: Sync, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sync("query_history", "column_stats").success
    assert found(stored(target))
    monkeypatch.setenv("SYNC_QUERY_TEXT", "redacted")
    assert sync("query_history", "column_stats").success
    assert found(stored(target)) == set()


TAG = '{"app": "dbt", "node_id": "model.shop.a"}'
LOGGED = rf"/* {TAG} */\nSELECT 1 -- {LOADED}\r\nWHERE id IN (\r\n907856,\n\t907856)"
READABLE = "/* %s */\nSELECT {} -- {}\nWHERE id IN (\n{},\n\\t{})"


@pytest.mark.parametrize(
    ("query_text", "shown"),
    [("full", READABLE.format(1, LOADED, 907856, 907856)), ("redacted", READABLE.format(*"????"))],
)
def test_line_breaks_are_real_and_what_follows_is_redacted(
    sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch, query_text: str, shown: str
) -> None:
    monkeypatch.setenv("SYNC_QUERY_TEXT", query_text)
    add_query(source, LOGGED)
    assert sync("query_history").success
    assert target("SELECT query_text FROM quper.query_history") == [(shown % TAG,)]
