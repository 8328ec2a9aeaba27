"""Queries have the names of their user and application, and vacuums those of their table."""

from __future__ import annotations

from typing import Any

from qupersync_assets.sandbox import Sandbox
from qupersync_assets_tests.support.integration import Query, Sync

CONNECTION = """INSERT INTO sys_connection_log (event, session_id, application_name, user_name, record_time)
    VALUES (%s, 1, %s, 'u', getdate() - %s * interval '1 s')"""
QUERY = """INSERT INTO sys_query_history (user_id, query_id, session_id, username, start_time)
    VALUES (%s, %s, 1, %s, getdate() - %s * interval '1 s')"""
NAMES = "SELECT query_id, application_name, user_name FROM quper.query_history ORDER BY query_id"


def test_a_query_has_the_application_name_that_its_session_had(sync: Sync, source: Query, target: Query) -> None:
    for event in [
        ("authenticated", "", 100),
        ("initiating session", "dbt  ", 99),
        ("set application_name", "dbt docs", 80),
        ("disconnecting session", "dbt docs", 60),
        ("initiating session", "", 50),  # of another client, without a name
        ("initiating session", "Looker", 40),
    ]:
        source(CONNECTION, event)
    for query, seconds in enumerate([200, 90, 70, 45, 30]):
        source(QUERY, (100, query, "", seconds))
    # A name is that of the session from its second on; another session has another one. No user needs to exist.
    source(
        f"{CONNECTION.replace(', 1,', ', 2,')}; {QUERY.replace(', 1,', ', 2,')}; {QUERY.replace(', 1,', ', 2,')}; "
        f"{CONNECTION.replace(', 1,', ', 2,')}",
        ["initiating session", "psql", 85, 999, 5, "former", 85, 100, 6, "", 84, "disconnecting session", "psql", 84],
    )
    source(QUERY, (100, 7, "", None))  # it has no start
    assert sync("query_history").success
    expected = [(0, None), (1, "dbt"), (2, "dbt docs"), (3, None), (4, "Looker"), (5, "psql"), (6, None), (7, None)]
    assert [row[:2] for row in target(NAMES)] == expected
    assert target("SELECT rows_duplicate FROM quper.sync_logs") == [(0,)]  # each query has one name
    assert {user for _, _, user in target(NAMES)} == {"former", "etl_airflow"}  # an empty name is none
    source("TRUNCATE sys_connection_log")  # Redshift keeps it for seven days
    source("UPDATE sys_query_history SET returned_rows = 7")
    assert sync("query_history").success
    assert [row[:2] for row in target(NAMES)] == expected
    assert target("SELECT DISTINCT returned_rows FROM quper.query_history") == [(7,)]


def test_a_user_name_comes_from_the_catalog_where_the_view_has_none(
    filled: Sandbox, sync: Sync, source: Query, target: Query
) -> None:
    source("ALTER TABLE sys_query_history RENAME COLUMN username TO absent")
    try:
        assert sync("query_history").success
    finally:
        source("ALTER TABLE sys_query_history RENAME COLUMN absent TO username")
    pairs = "SELECT DISTINCT user_id, user_name FROM quper.query_history ORDER BY 1"
    users = "SELECT usesysid, usename::text FROM pg_user WHERE usesysid BETWEEN 100 AND 107 ORDER BY 1"
    assert target(pairs) == source(users)
    source("UPDATE sys_query_history SET username = 'dropped' WHERE user_id = 107")
    assert sync("query_history").success
    assert target(f"{pairs} DESC LIMIT 1") == [(107, "dropped")]


def test_the_connection_log_is_not_needed(filled: Sandbox, sync: Sync, source: Query, target: Query) -> None:
    source("REVOKE SELECT ON redshift.sys_connection_log FROM qupersync_reader")
    try:
        assert sync("query_history").success
    finally:
        source("GRANT SELECT ON redshift.sys_connection_log TO qupersync_reader")
    assert target("SELECT count(application_name), count(*) > 1000 FROM quper.query_history") == [(0, True)]
    assert sync("query_history").success
    assert target("SELECT count(application_name) > 1000 FROM quper.query_history") == [(True,)]


def test_vacuums_of_equal_tables_in_two_databases_are_distinguished(sync: Sync, source: Query, target: Query) -> None:
    source("""INSERT INTO svv_table_info ("database", "schema", table_id, "table", tbl_rows)
        VALUES ('one', 's', 7, 't', 1), ('two', 's', 7, 't', 1), ('three', 's', 7, 't', 1)""")
    for database, xid in (("one", 1), ("two", 2)):
        source("INSERT INTO stl_vacuum (userid, xid, table_id, status, eventtime) VALUES (100, %s, 7, 'Finished', "
               "getdate() - %s * interval '1 h')", [xid, xid])  # fmt: skip
        source(
            "INSERT INTO sys_vacuum_history (transaction_id, table_id, database_name) VALUES (%s, 7, %s)",
            [xid, database],
        )
    # The transaction vacuumed another table, too.
    source("INSERT INTO sys_vacuum_history (transaction_id, table_id, database_name) VALUES (1, 8, 'two')")
    assert sync("table_stats", "vacuum_history").success
    assert target("SELECT xid, database_name FROM quper.vacuum_history ORDER BY 1") == [(1, "one"), (2, "two")]
    assert target("SELECT sum(rows_duplicate) FROM quper.sync_logs") == [(0,)]
    dates: dict[str, Any] = dict(target("SELECT database, last_vacuum_date FROM quper.table_stats"))
    assert dates["one"] > dates["two"] and dates["three"] is None
