"""quper.applications counts sessions: no failed logins, and each session of a process id."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qupersync_assets_tests.support.integration import Query, Sync

LOG = [  # minutes ago, event, process id, global session id
    (50, "authentication failure", 7, None),
    (40, "initiating session", 1, "a"),
    (39, "set application_name", 1, "a"),
    (38, "disconnecting session", 1, "a"),
    (30, "initiating session", 1, "d"),  # the process id is used again
    (20, "set application_name", 2, "b"),
    (10, "set application_name", 2, "c"),
    (5, "authentication failure", 2, None),
    (15, None, 3, None),
]
VIEWS = {"svl_user_activity": [], "sys_connection_log": ["svl_user_activity"],
         "stl_connection_log": ["svl_user_activity", "sys_connection_log"]}  # fmt: skip


@pytest.fixture
def logged(source: Query, request: pytest.FixtureRequest) -> Iterator[str]:
    """Fill the connection logs, and hide the views that are preferred to the requested one."""
    for minutes, event, process, session in LOG:
        for table, names in (
            ("sys_connection_log", "record_time, event, session_id, global_session_id, user_name, database_name"),
            ("stl_connection_log", "recordtime, event, pid, sessionid, username, dbname"),
        ):
            source(
                f"INSERT INTO {table} ({names}, application_name) "
                "VALUES (getdate() - make_interval(mins => %s), %s, %s, %s, 'u', 'd', 'app')",
                [minutes, event, process, session],
            )
    hidden = VIEWS[request.param]
    for view in hidden:
        source(f"ALTER TABLE {view} RENAME TO {view}_hidden")
    yield request.param
    for view in hidden:
        source(f"ALTER TABLE {view}_hidden RENAME TO {view}")


@pytest.mark.parametrize("logged", VIEWS, indirect=True)
@pytest.mark.parametrize("with_ids", [True, False])
def test_sessions_are_counted(logged: str, with_ids: bool, sync: Sync, source: Query, target: Query) -> None:
    is_stl = logged == "stl_connection_log"
    table, time = (logged, "recordtime") if is_stl else ("sys_connection_log", "record_time")
    if not with_ids:
        column = "sessionid" if is_stl else "global_session_id"
        source(f"UPDATE {table} SET {column} = ''")
    for _ in range(2):
        assert sync("applications").success
    assert target("SELECT source FROM quper.sync_logs ORDER BY id DESC LIMIT 1") == [(logged,)]
    (row,) = target(
        "SELECT application_name, user_name, sessions, round(extract(epoch FROM last_seen - first_seen) / 60) "
        "FROM quper.applications"
    )
    assert row == ("app", "u", 4 if with_ids else 3, 30)
    # The log is kept for seven days; what it has shown is known.
    seen = "SELECT first_seen, last_seen FROM quper.applications"
    before = target(seen)
    old, new = (f"getdate() - interval '{minutes} min'" for minutes in (31, 15))
    source(f"DELETE FROM {table} WHERE {time} NOT BETWEEN {old} AND {new}")
    assert sync("applications").success
    assert target(seen) == before


@pytest.mark.parametrize("logged", ["sys_connection_log"], indirect=True)
def test_a_failed_login_names_no_query(logged: str, sync: Sync, source: Query, target: Query) -> None:
    source(
        "INSERT INTO sys_query_history (user_id, query_id, session_id, start_time) "
        "SELECT 100, n, n, getdate() - interval '25 minutes' FROM unnest(ARRAY[1, 7]) n"
    )
    assert sync("query_history").success
    names = target("SELECT query_id, application_name FROM quper.query_history ORDER BY 1")
    assert names == [(1, "app"), (7, None)]
