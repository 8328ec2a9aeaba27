"""A clean sandbox for each test, and the product's own definitions built for it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from qupersync_assets.cli import app
from qupersync_assets.cli.documents import DOCUMENTS, Error
from qupersync_assets.core.errors import SyncError
from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import JOB_NAME
from qupersync_assets.postgres.job_status import log_rows
from qupersync_assets.postgres.kept_connections import close_kept
from qupersync_assets.postgres.resource import PostgresResource, postgres_resource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.postgres.sync_status import ACCEPTED
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.direct_run import run_jobs
from qupersync_assets.sync.job_choice import jobs_on
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.alert_servers import Webhook
from qupersync_assets_tests.support.dagster_instance import instance_in_memory
from qupersync_assets_tests.support.escaped_secrets import Secrets
from qupersync_assets_tests.support.expected_rows import TIMES
from qupersync_assets_tests.support.history import make_once
from qupersync_assets_tests.support.integration import (
    LOG_COLUMNS,
    Answer,
    Command,
    Materialize,
    Query,
    Sync,
    SyncResult,
)

# Changes with every object of the schema that is created, changed or dropped, also with a privilege or a trigger.
_CHANGES = """
    WITH class AS (SELECT oid, xmin FROM pg_class WHERE relnamespace = to_regnamespace('quper')), changes AS (
        SELECT xmin FROM pg_namespace WHERE nspname = 'quper'
        UNION ALL SELECT xmin FROM class
        UNION ALL SELECT xmin FROM pg_attribute WHERE attrelid IN (SELECT oid FROM class)
        UNION ALL SELECT xmin FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM class)
        UNION ALL SELECT xmin FROM pg_constraint WHERE connamespace = to_regnamespace('quper')
        UNION ALL SELECT xmin FROM pg_index WHERE indrelid IN (SELECT oid FROM class)
        UNION ALL SELECT xmin FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM class)
        UNION ALL SELECT xmin FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM class)
        UNION ALL SELECT xmin FROM pg_policy WHERE polrelid IN (SELECT oid FROM class)
        UNION ALL SELECT xmin FROM pg_inherits WHERE inhparent IN (SELECT oid FROM class)
        UNION ALL SELECT xmin FROM pg_proc WHERE pronamespace = to_regnamespace('quper')
        UNION ALL SELECT xmin FROM pg_description WHERE objoid IN (SELECT oid FROM class)
    ) SELECT count(*), max(xmin::text::bigint), to_regclass('quper.schema_version')::text FROM changes
"""
# The variables in which a process keeps the files that its settings are from.
FILES = ("QUPERSYNC_ENV_FILE", "QUPERSYNC_ENV_FILE_NAMES", "QUPERSYNC_SECRET_FILES")
# The state in which the last test found the schema, by the function that connects.
_clean: dict[Callable[[], Any], tuple[Any, ...]] = {}


def _state_of_schema(cursor: Any) -> tuple[Any, ...]:
    cursor.execute(_CHANGES)
    *changes, versions = cursor.fetchone()
    if versions:
        cursor.execute(f"SELECT xmin::text FROM {versions}")
    return (*changes, cursor.fetchall() if versions else None)


def clean_schema(connect: Callable[[], Any]) -> None:
    """Empty the tables of the target of this environment. If a test has changed the schema, make a new one, which
    costs more than most tests."""
    with _cursor(connect) as cursor:
        if is_clean := _state_of_schema(cursor) == _clean.get(connect):
            _empty_tables(cursor, "quper", "schema_version")
        else:
            cursor.execute("DROP SCHEMA IF EXISTS quper CASCADE")
    if not is_clean:
        ensure_schema(PostgresResource(Settings.load()))
        close_kept()
    with _cursor(connect) as cursor:
        _clean[connect] = _state_of_schema(cursor)


@pytest.fixture
def environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The product's variables, set for a sandbox whose source and whose tables in the target are empty."""
    variables = {**sandbox.environment(), "SYNC_RETRY_DELAY": "0", "SYNC_MAX_RETRIES": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for name in FILES:  # which tests that read files leave
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    close_kept()  # of other tests, which may have changed the settings of the role
    with _cursor(sandbox.connect_redshift) as cursor:
        _empty_tables(cursor, "redshift")
    with _cursor(sandbox.connect_quper) as cursor:
        # What other tests left in Dagster's storage; Dagster needs its own records of the storage's version.
        _empty_tables(cursor, "public", "alembic_version", "secondary_indexes", "instance_info")
    clean_schema(sandbox.connect_quper)
    yield variables


def _empty_tables(cursor: Any, schema: str, *kept: str) -> None:
    """Truncate the tables of a schema that have pages: PostgreSQL truncates each with new files."""
    cursor.execute(
        "SELECT string_agg(oid::regclass::text, ', ') FROM pg_catalog.pg_class WHERE relkind = 'r' "
        "AND relnamespace = to_regnamespace(%s) AND relname <> ALL (%s) AND pg_catalog.pg_relation_size(oid) > 0",
        [schema, list(kept)],
    )
    if tables := cursor.fetchone()[0]:
        cursor.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")


@cache
def _engine(connect: Callable[[], Any]) -> sa.Engine:
    """Return a pool that keeps one connection of a sandbox open for all tests, also if others are open meanwhile."""
    return sa.create_engine("postgresql+psycopg2://", creator=connect, pool_pre_ping=True, pool_size=1, max_overflow=-1)


@contextmanager
def _cursor(connect: Callable[[], Any]) -> Iterator[Any]:
    """A cursor whose transaction is committed at the end."""
    with closing(_engine(connect).raw_connection()) as connection:
        with closing(connection.cursor()) as cursor:
            yield cursor
        connection.commit()


def _query(connect: Callable[[], Any]) -> Query:
    def run(sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        with _cursor(connect) as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall()) if cursor.description else []

    return run


@pytest.fixture
def source(sandbox: Sandbox, environment: dict[str, str]) -> Query:
    """Runs SQL as superuser in the database that plays Redshift; returns the rows."""
    return _query(sandbox.connect_redshift)


@pytest.fixture
def target(sandbox: Sandbox, environment: dict[str, str]) -> Query:
    """Runs SQL as superuser in the target database; returns the rows."""
    return _query(sandbox.connect_quper)


@pytest.fixture
def filled(sandbox: Sandbox, environment: dict[str, str], source: Query) -> Sandbox:
    """The sandbox with a realistic source, of which no row expires at seven days during a test."""

    def fill() -> None:
        workload = sandbox.workload()
        workload.backfill(datetime.now(UTC), queries=1500)
        for _ in range(4):
            workload.advance(datetime.now(UTC))
        for view, column in TIMES.items():
            source(f"DELETE FROM {view} WHERE {column} BETWEEN '2010-01-01' AND getdate() - interval '6 days 23 hours'")

    make_once(sandbox, "filled", fill)
    return sandbox


@pytest.fixture(scope="session")
def shared_instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with instance_in_memory() as kept:
        yield kept


@pytest.fixture
def instance(shared_instance: dg.DagsterInstance) -> Iterator[dg.DagsterInstance]:
    """An empty Dagster instance in memory."""
    yield shared_instance
    shared_instance.wipe()


@pytest.fixture
def sync(environment: dict[str, str]) -> Sync:
    """Sync the given tables, or all, with the settings of the environment: without Dagster, which takes most of the
    time of a short run. `materialize` does the same in Dagster."""

    def run(*tables: str) -> SyncResult:
        settings, run_id = Settings.load(), str(uuid4())
        [cluster] = settings.by_cluster()
        specs = [spec for spec in jobs_on(settings) if not tables or spec.table.name in tables]
        assert len(specs) == len(tables) or not tables, tables
        postgres = postgres_resource(settings)
        try:
            run_jobs(settings, postgres, cluster, specs, run_id, logging.getLogger(__name__), full_refresh=False)
            rows = log_rows(postgres, [cluster], run_ids=[run_id])
        except SyncError:  # PostgreSQL does not answer
            return SyncResult(run_id, False)
        finally:
            postgres.dispose()
        return SyncResult(run_id, len(rows) == len(specs) and all(row["status"] in ACCEPTED for row in rows))

    return run


@pytest.fixture
def materialize(environment: dict[str, str], instance: dg.DagsterInstance) -> Materialize:
    """Materialize the given sync assets (tables), or all, with the settings of the environment."""

    def run(*tables: str) -> dg.ExecuteInProcessResult:
        job = _job(Settings.load(), tables)
        return job.execute_in_process(instance=instance, raise_on_error=False)

    return run


# Many tests run the same job: the sync jobs that it was built from, and the job, by settings and tables.
_jobs: dict[tuple[Settings, tuple[str, ...]], tuple[Sequence[SyncSpec], dg.JobDefinition]] = {}


def _job(settings: Settings, tables: tuple[str, ...]) -> dg.JobDefinition:
    specs, job = _jobs.get((settings, tables), ((), None))
    if job is None or specs is not all_specs():
        job = build_definitions(settings).resolve_job_def(JOB_NAME)
        if tables:
            job = job.get_subset(asset_selection={dg.AssetKey(["quper", table]) for table in tables})
        if len(_jobs) > 20:
            _jobs.clear()
        _jobs[settings, tables] = all_specs(), job
    return job


@pytest.fixture
def logged(target: Query) -> Callable[[str], tuple[Any, ...]]:
    """The LOG_COLUMNS of a job's newest row in quper.sync_logs."""

    def read(sync_job_id: str) -> tuple[Any, ...]:
        return target(
            f"SELECT {LOG_COLUMNS} FROM quper.sync_logs WHERE sync_job_id = %s ORDER BY id DESC LIMIT 1", [sync_job_id]
        )[0]

    return read


@pytest.fixture
def postgres(environment: dict[str, str]) -> PostgresResource:
    """The target with its schema, as the product's user."""
    return PostgresResource(Settings.load())


@pytest.fixture
def bare(postgres: PostgresResource, target: Query) -> PostgresResource:
    """The target without a schema, as the product's user."""
    target("DROP SCHEMA quper CASCADE")
    return postgres


@pytest.fixture
def engine(postgres: PostgresResource) -> sa.Engine:
    """Its engine."""
    return postgres.engine()


@pytest.fixture
def two_clusters(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The login of the sandbox for two clusters, north and south, in place of one."""
    for name in ("CLUSTER_NAME", "REDSHIFT_HOST", "REDSHIFT_PASSWORD"):
        monkeypatch.delenv(name)
    for name in ("HOST", "PASSWORD"):
        for cluster in ("NORTH", "SOUTH"):
            monkeypatch.setenv(f"REDSHIFT_{cluster}_{name}", environment[f"REDSHIFT_{name}"])
    monkeypatch.setenv("CLUSTERS", "north,south")


@pytest.fixture
def qupersync(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command `qupersync` in an empty folder, without a Dagster instance and in 80 columns; no answer has a
    password, or lines that end with blanks, and JSON has the documented schema."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str, answer: str | None = None) -> Answer:
        done = CliRunner().invoke(app, arguments, input=answer)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert not any(environment[f"{side}_PASSWORD"] in done.output for side in ("REDSHIFT", "POSTGRES"))
        if "--json" in arguments and done.stdout:
            verb = " ".join(arguments[:2]) if arguments[1] in ("rename", "forget") else arguments[0]
            document = json.loads(done.stdout)
            (Error if "error" in document else DOCUMENTS[verb]).model_validate(document)
        else:
            assert not any(line.endswith(" ") for line in done.stdout.splitlines()) or "--help" in arguments
        return Answer(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def dagster_home(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME with the project's dagster.yaml, whose storage is in the sandbox."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(Path(__file__).parents[2] / "dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return home


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Iterator[Webhook]:
    """A webhook is the first entry of ALERT_URLS, with a password of special characters."""
    password = Secrets().make().encode("ascii", "ignore").decode().replace("\n", "").replace("\r", "")
    with Webhook(password) as server:
        monkeypatch.setenv("ALERT_URLS", server.url)
        monkeypatch.setenv("UI_URL", "https://dagster.example/")
        yield server
