"""Tests of the whole sandbox: privileges of the roles, and the sandbox as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
import redshift_connector

from qupersync_assets.sandbox import Sandbox, SandboxError
from qupersync_assets.spec.redshift_views import documented_views


def _target(environment: dict[str, str], **changes: str) -> psycopg2.extensions.connection:
    names = {"host": "HOST", "port": "PORT", "dbname": "DATABASE", "user": "USER", "password": "PASSWORD"}
    arguments = {name: environment[f"POSTGRES_{variable}"] for name, variable in names.items()}
    return psycopg2.connect(**arguments | changes)


def test_reader_reads_all_views_and_writes_none(sandbox: Sandbox) -> None:
    environment = sandbox.environment()
    with redshift_connector.connect(
        host=environment["REDSHIFT_HOST"],
        port=int(environment["REDSHIFT_PORT"]),
        database=environment["REDSHIFT_DATABASE"],
        user=environment["REDSHIFT_USER"],
        password=environment["REDSHIFT_PASSWORD"],
        ssl=False,
    ) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        for view, facts in documented_views().items():
            if not facts["provisioned"]:
                continue
            columns = [name for name, _ in facts["columns"]]
            cursor.execute("SELECT {} FROM {}".format(", ".join(f'"{name.lower()}"' for name in columns), view))
            assert [column[0] for column in cursor.description] == [name.lower() for name in columns]
        for catalog in ("svl_user_activity", "pg_class", "pg_namespace"):
            cursor.execute(f"SELECT * FROM {catalog}")
        for statement in ("DELETE FROM stl_scan", "CREATE TABLE mine (a int)", "CREATE TEMP TABLE mine (a int)"):
            with pytest.raises(redshift_connector.ProgrammingError) as raised:
                cursor.execute(statement)
            assert raised.value.args[0]["C"] == "42501"


def test_roles_have_separate_databases(sandbox: Sandbox) -> None:
    environment = sandbox.environment()
    with closing(_target(environment)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA mine")
        connection.rollback()
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        _target(environment, dbname="redshift")
    reader = {"user": environment["REDSHIFT_USER"], "password": environment["REDSHIFT_PASSWORD"]}
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        _target(environment, **reader)


def test_superuser_inserts_invalid_rows(sandbox: Sandbox) -> None:
    with closing(sandbox.connect_redshift()) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO sys_connection_log (application_name) VALUES (NULL), ('x'), ('x')")
        cursor.execute("INSERT INTO svl_user_activity (event) VALUES ('authenticated')")
        cursor.execute("SELECT format_encoding(0), getdate() - localtimestamp < interval '1 minute'")
        assert cursor.fetchone() == ("none", True)
        connection.rollback()


def test_rtrim_of_padded_text_equals_postgres(sandbox: Sandbox) -> None:
    texts = ["", " ", "a", "ab \t ", "Zażółć 東京 €  ", " ' \n\\", "x" * 12, None]
    with closing(sandbox.connect_redshift()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE padded (text character(12))")
        cursor.executemany("INSERT INTO padded VALUES (%s)", [[text] for text in texts])
        cursor.execute("SELECT rtrim(text), pg_catalog.rtrim(text::text) FROM padded")
        trimmed, expected = zip(*cursor.fetchall(), strict=True)
        assert trimmed == expected
        assert trimmed == tuple(text and text.rstrip(" ") for text in texts)


def test_command_runs_until_sigterm(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "qupersync_assets.sandbox",
        str(tmp_path / "box"),
        "--queries",
        "50",
        "--every",
        "0.1",
    ]
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            lines = [process.stdout.readline().strip().partition("=") for _ in range(12)]
            environment = {name: value for name, _, value in lines}
            with closing(_target(environment)) as connection:
                assert connection.info.dbname == "quper"
            (server,) = [child for child in psutil.Process(process.pid).children() if "postgres" in child.name()]
            with pytest.raises(SandboxError, match="in use"):
                Sandbox(tmp_path / "box").start()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert not server.is_running()
    assert (tmp_path / "box" / "roles.json").stat().st_mode & 0o777 == 0o600


def test_command_reports_why_it_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "qupersync_assets.sandbox", str(tmp_path / "file")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "cannot be used" in result.stderr
