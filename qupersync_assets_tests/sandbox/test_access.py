"""A user without grants: only its own rows, and nothing of what is for superusers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.access import ORDINARY, READER, USER_IDS
from qupersync_assets.views import documented_views

from .conftest import Connect, refused, rows

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


def test_an_ordinary_user_sees_its_own_rows(connect: Connect, filled: None) -> None:
    ordinary, reader = connect(user=ORDINARY), connect()
    for view, columns, values in INSERTED:
        statement = f"SELECT count(*) FROM {view} WHERE {columns.split(', ')[1]} = '{MARK}'"
        assert rows(ordinary, statement) == [[1]]
        assert rows(reader, statement) == [[values.count("(")]]


def test_the_reader_does_not_pay_for_it(connect: Connect) -> None:
    statement = "EXPLAIN SELECT userid FROM stl_scan"
    assert "Filter" in str(rows(connect(user=ORDINARY), statement))
    assert "Filter" not in str(rows(connect(), statement))


def test_views_for_superusers_are_closed_to_it(connect: Connect) -> None:
    connection = connect(user=ORDINARY)
    for view, facts in documented_views().items():
        if not facts["provisioned"]:
            continue
        if facts["visibility"] != "superuser":
            rows(connection, f"SELECT * FROM {view} LIMIT 1")
        else:
            assert refused(connection, f"SELECT 1 FROM {view}")[0] == "42501"


def test_users_and_roles_can_be_read(connect: Connect) -> None:
    for user, roles in ((READER, ["sys:monitor"]), (ORDINARY, [])):
        connection = connect(user=user)
        assert rows(
            connection,
            "SELECT usesysid, usesuper, usecreatedb, usecatupd FROM pg_user WHERE usename = current_user",
        ) == [[USER_IDS[user], False, False, False]]
        assert rows(connection, "SELECT role_name FROM svv_user_grants WHERE user_name = current_user") == [
            [r] for r in roles
        ]
        assert rows(connection, "SELECT usename FROM pg_user WHERE usesuper") == [["rdsdb"]]
