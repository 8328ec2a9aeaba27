"""Whose rows a user sees and what it may read follow from facts, which it can ask for as in Redshift."""

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
    """A session of a user without rights, who has none again after the test."""
    yield connect(user=ORDINARY)
    sandbox.set_access(ORDINARY, superuser=False, syslog="RESTRICTED", roles=[])


def seen(connection: redshift_connector.Connection) -> list[int]:
    """How many of the inserted rows a session sees, by view."""
    return [
        rows(connection, f"SELECT count(*) FROM {view} WHERE {columns.split(', ')[1]} = '{MARK}'")[0][0]
        for view, columns, _ in INSERTED
    ]


def denied(connection: redshift_connector.Connection) -> set[str]:
    """The views of a provisioned cluster that a session may not read."""
    found = set()
    for view, facts in documented_views().items():
        if facts["provisioned"]:
            try:
                rows(connection, f"SELECT * FROM {view} LIMIT 1")
            except redshift_connector.ProgrammingError as error:
                assert error.args[0]["C"] == "42501"
                found.add(view)
    return found


FOR_SUPERUSERS = {
    view for view, f in documented_views().items() if f["visibility"] == "superuser" and f["provisioned"]
}
OWN_ROWS = [1 for _ in INSERTED]
ALL_ROWS = [values.count("(") for _, _, values in INSERTED]


@pytest.mark.parametrize(
    ("right", "withdrawn", "closed"),
    [
        ({"syslog": "UNRESTRICTED"}, {"syslog": "RESTRICTED"}, FOR_SUPERUSERS),
        ({"roles": ["sys:monitor"]}, {"roles": ["sys:dba"]}, FOR_SUPERUSERS),
        ({"superuser": True}, {"superuser": False}, set()),
    ],
)
def test_rows_and_views_follow_the_facts_at_once(
    sandbox: Sandbox,
    filled: None,
    ordinary: redshift_connector.Connection,
    right: Any,
    withdrawn: Any,
    closed: set[str],
) -> None:
    assert (seen(ordinary), denied(ordinary)) == (OWN_ROWS, FOR_SUPERUSERS)
    sandbox.set_access(ORDINARY, **right)
    assert (seen(ordinary), denied(ordinary)) == (ALL_ROWS, closed)
    sandbox.set_access(ORDINARY, **withdrawn)
    assert (seen(ordinary), denied(ordinary)) == (OWN_ROWS, FOR_SUPERUSERS)


def test_the_reader_reads_everything_by_its_grants(sandbox: Sandbox, connect: Connect, filled: None) -> None:
    reader = connect()
    assert (seen(reader), denied(reader)) == (ALL_ROWS, set())
    sandbox.set_access(READER, roles=[])
    try:
        assert (seen(reader), denied(reader)) == ([0, 0, 0], set())
    finally:
        sandbox.set_access(READER, roles=["sys:monitor"])


@pytest.mark.parametrize("user", [READER, ORDINARY])
def test_facts_are_looked_up_once_a_query(connect: Connect, user: str) -> None:
    plan = [line for (line,) in rows(connect(user=user), "EXPLAIN SELECT userid FROM stl_scan")]
    (condition,) = [line for line in plan if "userid" in line]
    assert re.search(
        r"Filter: \(\(InitPlan 1\)\.\w+ OR \(btrim\(.*userid.*\) = \(InitPlan 2\)\.\w+\)\)$", condition
    )


MY_FACTS = "SELECT superuser, syslog_access FROM svv_user_info WHERE user_name = current_user"
MY_ROLES = "SELECT role_name FROM svv_user_grants WHERE user_name = current_user"
AM_I_MONITOR = "SELECT user_is_member_of(current_user, 'sys:monitor')"


def test_a_user_can_ask_for_its_facts(
    sandbox: Sandbox, connect: Connect, ordinary: redshift_connector.Connection
) -> None:
    def asked(connection: redshift_connector.Connection) -> list[list[list[Any]]]:
        return [rows(connection, statement) for statement in (MY_FACTS, MY_ROLES, AM_I_MONITOR)]

    assert asked(connect()) == [[[False, "RESTRICTED"]], [["sys:monitor"]], [[True]]]
    assert asked(ordinary) == [[[False, "RESTRICTED"]], [], [[False]]]
    sandbox.set_access(ORDINARY, syslog="UNRESTRICTED", roles=["analysts", "sys:monitor"])
    facts, roles, is_monitor = asked(ordinary)
    assert (facts, sorted(roles), is_monitor) == (
        [[False, "UNRESTRICTED"]],
        [["analysts"], ["sys:monitor"]],
        [[True]],
    )
    sandbox.set_access(ORDINARY, superuser=True, roles=[])
    assert asked(ordinary) == [[[True, "UNRESTRICTED"]], [], [[False]]]


def test_only_a_superuser_can_ask_for_those_of_others(
    sandbox: Sandbox, ordinary: redshift_connector.Connection
) -> None:
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
        asked = "nobody" if role == "sys:monitor" else ORDINARY
        assert refused(ordinary, f"SELECT user_is_member_of('{asked}', '{role}')")[0] == "42704"


def test_users_of_the_workload_have_their_ids(ordinary: redshift_connector.Connection) -> None:
    expected = {client.user_name: client.user_id for client in CLIENTS} | USER_IDS
    found = dict(rows(ordinary, "SELECT usename, usesysid FROM pg_user"))
    assert {name: found[name] for name in expected} == expected
    assert rows(ordinary, "SELECT usename FROM pg_user WHERE usesuper") == [["rdsdb"]]


def test_the_facts_themselves_are_out_of_reach(ordinary: redshift_connector.Connection) -> None:
    for relation in ("users", "me"):
        assert refused(ordinary, f"SELECT * FROM redshift_facts.{relation}")[0] == "42501"


def test_a_user_may_be_added(sandbox: Sandbox, connect: Connect, filled: None) -> None:
    sandbox.create_user("access_test")
    sandbox.set_access("access_test", roles=["sys:monitor"])
    sandbox.create_user("access_test")
    added = connect(user="access_test")
    ((user_id,),) = rows(added, "SELECT user_id FROM svv_user_info")
    assert user_id not in {*USER_IDS.values(), *(client.user_id for client in CLIENTS)}
    assert (seen(added), denied(added)) == (ALL_ROWS, FOR_SUPERUSERS)
    with pytest.raises(ValueError, match="no user nobody"):
        sandbox.set_access("nobody", syslog="UNRESTRICTED")


def test_facts_stay_over_a_restart(sandbox: Sandbox, ordinary: redshift_connector.Connection) -> None:
    sandbox.set_access(ORDINARY, syslog="UNRESTRICTED")
    environment = sandbox.environment()
    create_warehouse(sandbox.server, environment["REDSHIFT_PASSWORD"], environment["POSTGRES_PASSWORD"])
    assert rows(ordinary, MY_FACTS) == [[False, "UNRESTRICTED"]]
