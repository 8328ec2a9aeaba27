"""Tests of access control: the rows and views that a user may read, and queries for its privileges."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redshift_connector

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.warehouse.access import ORDINARY, READER, USER_IDS
from qupersync_assets.sandbox.warehouse.databases import create_warehouse
from qupersync_assets.sandbox.workload.traffic import CLIENTS
from qupersync_assets.spec.redshift_views import documented_views
from qupersync_assets_tests.sandbox.conftest import Connect, refused, rows

MARK = "access test"
OWN = USER_IDS[ORDINARY]
INSERTED = [
    ("stl_scan", "userid, perm_table_name", f"({OWN}, '{MARK}'), (100, '{MARK}'), (NULL, '{MARK}')"),
    ("sys_session_history", "user_id, database_name", f"('{OWN}', '{MARK}'), ('100', '{MARK}')"),
    ("stv_sessions", "user_name, db_name", f"('{ORDINARY}', '{MARK}'), ('bartek', '{MARK}')"),
]


@pytest.fixture
def filled(sandbox: Sandbox) -> Iterator[None]:
    """Rows of several users in three views."""
    with closing(sandbox.connect_redshift()) as connection, connection, connection.cursor() as cursor:
        for view, columns, values in INSERTED:
            cursor.execute(f"INSERT INTO {view} ({columns}) VALUES {values}")
    yield
    with closing(sandbox.connect_redshift()) as connection, connection, connection.cursor() as cursor:
        for view, columns, _ in INSERTED:
            cursor.execute(f"DELETE FROM {view} WHERE {columns.split(', ')[1]} = '{MARK}'")


@pytest.fixture
def ordinary(sandbox: Sandbox, connect: Connect) -> Iterator[redshift_connector.Connection]:
    """A session of a user without grants; grants of the test are revoked."""
    yield connect(user=ORDINARY)
    sandbox.set_access(ORDINARY, superuser=False, syslog="RESTRICTED", roles=[])


def seen(connection: redshift_connector.Connection) -> list[int]:
    """Return the number of inserted rows that a session sees, by view."""
    return [
        rows(connection, f"SELECT count(*) FROM {view} WHERE {columns.split(', ')[1]} = '{MARK}'")[0][0]
        for view, columns, _ in INSERTED
    ]


def denied(connection: redshift_connector.Connection) -> set[str]:
    """Return the views of a provisioned cluster that a session may not read."""
    found = set()
    for view, facts in documented_views().items():
        if facts["provisioned"]:
            try:
                rows(connection, f"SELECT * FROM {view} LIMIT 1")
            except redshift_connector.ProgrammingError as error:
                assert error.args[0]["C"] == "42501"
                found.add(view)
    return found


FOR_SUPERUSERS = {view for view, f in documented_views().items() if f["visibility"] == "superuser" and f["provisioned"]}
OWN_ROWS = [1 for _ in INSERTED]
ALL_ROWS = [values.count("(") for _, _, values in INSERTED]


@pytest.mark.parametrize(
    ("granted", "revoked", "still_denied"),
    [
        ({"syslog": "UNRESTRICTED"}, {"syslog": "RESTRICTED"}, FOR_SUPERUSERS),
        ({"roles": ["sys:monitor"]}, {"roles": ["sys:dba"]}, FOR_SUPERUSERS),
        ({"superuser": True}, {"superuser": False}, set()),
    ],
)
def test_access_changes_apply_to_next_statement(
    sandbox: Sandbox,
    filled: None,
    ordinary: redshift_connector.Connection,
    granted: Any,
    revoked: Any,
    still_denied: set[str],
) -> None:
    assert (seen(ordinary), denied(ordinary)) == (OWN_ROWS, FOR_SUPERUSERS)
    sandbox.set_access(ORDINARY, **granted)
    assert (seen(ordinary), denied(ordinary)) == (ALL_ROWS, still_denied)
    sandbox.set_access(ORDINARY, **revoked)
    assert (seen(ordinary), denied(ordinary)) == (OWN_ROWS, FOR_SUPERUSERS)


def test_reader_needs_sys_monitor_for_all_rows(sandbox: Sandbox, connect: Connect, filled: None) -> None:
    reader = connect()
    assert (seen(reader), denied(reader)) == (ALL_ROWS, set())
    sandbox.set_access(READER, roles=[])
    try:
        assert (seen(reader), denied(reader)) == ([0, 0, 0], set())
    finally:
        sandbox.set_access(READER, roles=["sys:monitor"])


@pytest.mark.parametrize("user", [READER, ORDINARY])
def test_access_is_evaluated_once_per_query(connect: Connect, user: str) -> None:
    plan = [line for (line,) in rows(connect(user=user), "EXPLAIN SELECT userid FROM stl_scan")]
    (condition,) = [line for line in plan if "userid" in line]
    assert re.search(r"Filter: \(\(InitPlan 1\)\.\w+ OR \(btrim\(.*userid.*\) = \(InitPlan 2\)\.\w+\)\)$", condition)


MY_FACTS = "SELECT superuser, syslog_access FROM svv_user_info WHERE user_name = current_user"
MY_ROLES = "SELECT role_name FROM svv_user_grants WHERE user_name = current_user"
AM_I_MONITOR = "SELECT user_is_member_of(current_user, 'sys:monitor')"


def test_user_queries_own_privileges(
    sandbox: Sandbox, connect: Connect, ordinary: redshift_connector.Connection
) -> None:
    def privileges(connection: redshift_connector.Connection) -> list[list[list[Any]]]:
        return [rows(connection, statement) for statement in (MY_FACTS, MY_ROLES, AM_I_MONITOR)]

    assert privileges(connect()) == [[[False, "RESTRICTED"]], [["sys:monitor"]], [[True]]]
    assert privileges(ordinary) == [[[False, "RESTRICTED"]], [], [[False]]]
    sandbox.set_access(ORDINARY, syslog="UNRESTRICTED", roles=["analysts", "sys:monitor"])
    facts, roles, is_monitor = privileges(ordinary)
    assert (facts, sorted(roles), is_monitor) == ([[False, "UNRESTRICTED"]], [["analysts"], ["sys:monitor"]], [[True]])
    sandbox.set_access(ORDINARY, superuser=True, roles=[])
    assert privileges(ordinary) == [[[True, "UNRESTRICTED"]], [], [[False]]]


def test_only_superuser_queries_privileges_of_others(sandbox: Sandbox, ordinary: redshift_connector.Connection) -> None:
    others = (
        "SELECT user_name FROM svv_user_info WHERE user_name <> current_user",
        "SELECT user_name, role_name FROM svv_user_grants",
    )
    is_reader_monitor = f"SELECT user_is_member_of('{READER}', 'sys:monitor')"
    assert [rows(ordinary, statement) for statement in others] == [[], []]
    assert refused(ordinary, is_reader_monitor) == ("42704", f'user "{READER}" does not exist')
    sandbox.set_access(ORDINARY, superuser=True)
    users, grants = (rows(ordinary, statement) for statement in others)
    assert {user for (user,) in users} >= {READER, "rdsdb", *(client.user_name for client in CLIENTS)}
    assert [READER, "sys:monitor"] in grants
    assert rows(ordinary, is_reader_monitor) == [[True]]
    for role in ("sys:monitor", "no_such_role"):
        user = "no_such_user" if role == "sys:monitor" else ORDINARY
        assert refused(ordinary, f"SELECT user_is_member_of('{user}', '{role}')")[0] == "42704"


def test_catalog_lists_users_of_workload(ordinary: redshift_connector.Connection) -> None:
    expected = {client.user_name: client.user_id for client in CLIENTS} | USER_IDS
    found = dict(rows(ordinary, "SELECT usename, usesysid FROM pg_user"))
    assert {name: found[name] for name in expected} == expected
    assert rows(ordinary, "SELECT usename FROM pg_user WHERE usesuper") == [["rdsdb"]]


def test_privilege_tables_are_not_readable(ordinary: redshift_connector.Connection) -> None:
    for relation in ("users", "me"):
        assert refused(ordinary, f"SELECT * FROM redshift_facts.{relation}")[0] == "42501"


def test_created_user_has_default_privileges(sandbox: Sandbox, connect: Connect, filled: None) -> None:
    sandbox.create_user("access_test")
    sandbox.set_access("access_test", roles=["sys:monitor"])
    sandbox.create_user("access_test")
    added = connect(user="access_test")
    ((user_id,),) = rows(added, "SELECT user_id FROM svv_user_info")
    assert user_id not in {*USER_IDS.values(), *(client.user_id for client in CLIENTS)}
    assert (seen(added), denied(added)) == (ALL_ROWS, FOR_SUPERUSERS)
    with pytest.raises(ValueError, match="no user no_such_user"):
        sandbox.set_access("no_such_user", syslog="UNRESTRICTED")


def test_access_survives_restart(sandbox: Sandbox, ordinary: redshift_connector.Connection) -> None:
    sandbox.set_access(ORDINARY, syslog="UNRESTRICTED")
    environment = sandbox.environment()
    create_warehouse(sandbox.server, environment["REDSHIFT_PASSWORD"], environment["POSTGRES_PASSWORD"])
    assert rows(ordinary, MY_FACTS) == [[False, "UNRESTRICTED"]]
