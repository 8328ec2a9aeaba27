"""Any schema becomes that of the models, in one transaction, once, and without holding readers up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.postgres import migrations, schema
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema, migrate, versions
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.spec import METADATA, SyncSpec, column, quper_table
from qupersync_assets_tests.integration.conftest import Query, Sync
from qupersync_assets_tests.support.schema_catalog import catalog, fill, make, of_the_models, rows

AddVersion = Callable[..., str]


def recorded(target: Query) -> list[tuple[Any, ...]]:
    return target("SELECT version_num FROM quper.schema_version")


@contextmanager
def statements(engine: sa.Engine) -> Iterator[list[str]]:
    """What is sent to PostgreSQL meanwhile."""
    sent: list[str] = []

    def listen(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        sent.append(statement)

    sa.event.listen(engine, "before_cursor_execute", listen)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", listen)


@pytest.fixture
def add_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AddVersion:
    """Adds a version of the given SQL statements behind the newest one, and returns it."""
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, folder)
    monkeypatch.setattr(schema, "MIGRATIONS", str(folder))

    def add(*sql: str) -> str:
        last = versions()[-1]
        new = f"{int(last) + 1:04}"
        lines = [
            "from alembic import op",
            f"revision, down_revision = {new!r}, {last!r}",
            "def upgrade():",
            *(f"    op.execute({statement!r})" for statement in sql),
        ]
        (folder / "versions" / f"{new}_test.py").write_text("\n".join(lines), "utf-8")
        return new

    return add


@pytest.mark.parametrize("start", ["empty", "unversioned", *versions()[:-1]])
def test_any_schema_becomes_that_of_the_models_and_keeps_its_rows(
    bare: PostgresResource, target: Query, start: str
) -> None:
    models = of_the_models(bare, target)
    if start != "empty":
        make(bare, start)
        fill(target)
    before = rows(target) if start != "empty" else {}
    ensure_schema(bare)
    assert catalog(target) == models
    assert recorded(target) == [(versions()[-1],)]
    after = rows(target)
    for table, kept in before.items():
        names = METADATA.tables[f"quper.{table}"].c.keys()
        assert len(kept) == len(after[table]) == 2
        for old, new in zip(kept, after[table], strict=True):
            common = old.keys() & names
            assert {n: new[n] for n in common} == {n: old[n] for n in common}


def test_every_version_follows_the_one_before() -> None:
    files = sorted(Path(migrations.__file__).parent.glob("versions/0*.py"))
    assert versions() == [f"{n:04}" for n in range(1, len(files) + 1)] == [f.name[:4] for f in files]


def test_what_is_up_to_date_costs_one_statement(postgres: PostgresResource) -> None:
    with statements(postgres.engine()) as sent:
        ensure_schema(postgres)
    assert len(sent) == 1 and sent[0].startswith("SELECT")


def test_versions_are_told(bare: PostgresResource, add_version: AddVersion) -> None:
    first = versions()[-1]
    assert migrate(bare) == (None, first)
    assert migrate(bare) == (first, first)
    add_version("ALTER TABLE quper.node_details ADD COLUMN extra integer")
    last = add_version("ALTER TABLE quper.node_details DROP COLUMN extra")
    assert migrate(bare) == (first, last)


def test_a_table_that_no_version_knows_is_created(
    bare: PostgresResource, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(bare)
    before = catalog(target)
    table = quper_table(
        "sessions", column("process", sa.Integer(), "process id"), key=("process",), comment="Sessions."
    )
    spec = SyncSpec(
        "session_sync", table, "snapshot", "Who is connected.", ("stv_sessions",), "FROM stv_sessions"
    )
    try:
        monkeypatch.setattr(schema, "all_specs", lambda: (spec,))
        ensure_schema(bare)
        with statements(bare.engine()) as sent:
            ensure_schema(bare)
    finally:
        METADATA.remove(table)
    after = catalog(target)
    assert after[("column", "sessions.process")] and before.items() <= after.items()
    assert recorded(target) == [(versions()[-1],)]
    assert len(sent) == 1


def test_a_schema_that_is_there_needs_no_right_to_create_one(bare: PostgresResource, target: Query) -> None:
    target("CREATE SCHEMA quper AUTHORIZATION qupersync; REVOKE CREATE ON DATABASE quper FROM qupersync")
    try:
        assert migrate(bare) == (None, versions()[-1])
    finally:
        target("GRANT CREATE ON DATABASE quper TO qupersync")


@pytest.mark.parametrize("bring_up", [ensure_schema, migrate])
def test_a_newer_schema_is_refused(
    postgres: PostgresResource, target: Query, bring_up: Callable[[PostgresResource], object]
) -> None:
    # Without a table, so that there would be something to do.
    target("UPDATE quper.schema_version SET version_num = '9999'; DROP TABLE quper.node_details CASCADE")
    before = catalog(target)
    with pytest.raises(SyncError, match=rf"9999.*{versions()[-1]}: upgrade QuperSync\.$") as refusal:
        bring_up(postgres)
    assert refusal.value.error_class is ErrorClass.FATAL
    assert catalog(target) == before and recorded(target) == [("9999",)]


@pytest.mark.parametrize("state", ["absent", "older", "incomplete"])
def test_a_sync_does_not_migrate_if_so_set(
    sync: Sync,
    bare: PostgresResource,
    target: Query,
    add_version: AddVersion,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    last = versions()[-1]
    words = [f"version none of {last}", *(table.name for table in schema.tables())]
    if state != "absent":
        migrate(bare)
        words = [f"version {last} of {last}", "lacks node_details,"]
    if state == "older":
        words = [
            f"version {last} of {add_version('ALTER TABLE quper.node_details ADD COLUMN extra integer')}"
        ]
    elif state == "incomplete":
        target("DROP TABLE quper.node_details CASCADE")
    monkeypatch.setenv("SYNC_AUTO_MIGRATE", "false")
    result = sync("node_details")
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    error = str(failure.step_failure_data.error)
    assert all(word in error for word in [*words, "SYNC_AUTO_MIGRATE", "run `qupersync migrate`"])
    assert not any(e.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY for e in result.all_events)
    migrate(bare)
    assert sync("node_details").success


def test_a_version_that_fails_changes_nothing(
    postgres: PostgresResource, target: Query, add_version: AddVersion
) -> None:
    before, first = catalog(target), recorded(target)
    add_version("ALTER TABLE quper.node_details ADD COLUMN extra integer")
    add_version("CREATE TABLE quper.more (n integer)", "SELECT 1 / 0")
    with pytest.raises(SyncError, match="division by zero") as failure:
        ensure_schema(postgres)
    assert failure.value.error_class is ErrorClass.FATAL
    assert catalog(target) == before and recorded(target) == first


MIGRATE = """
import os
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import migrate

print(migrate(PostgresResource(
    host=os.environ["POSTGRES_HOST"], port=int(os.environ["POSTGRES_PORT"]), user=os.environ["POSTGRES_USER"],
    database=os.environ["POSTGRES_DATABASE"], password=os.environ["POSTGRES_PASSWORD"],
)))
"""


@pytest.mark.parametrize("start", ["empty", "unversioned"])
def test_of_processes_that_migrate_at_once_one_does_it(
    bare: PostgresResource, target: Query, sandbox: Sandbox, start: str
) -> None:
    if start == "unversioned":
        make(bare, start)
    # Longer than a migration waits for a table: one waits for another for as long as that takes.
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
        f"AND waitstart < clock_timestamp() - interval '{schema.LOCK_SECONDS + 0.5} s'"
    )
    with closing(sandbox.connect_quper()) as holder, holder.cursor() as cursor:
        # Until all of them stand at the same place.
        cursor.execute("SELECT pg_advisory_lock(%s)", [schema._LOCK])
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", MIGRATE], env=os.environ, stdout=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        try:
            deadline = time.monotonic() + 60
            while target(waiting) != [(len(processes),)]:
                assert time.monotonic() < deadline and all(p.poll() is None for p in processes)
                time.sleep(0.05)
            cursor.execute("SELECT pg_advisory_unlock(%s)", [schema._LOCK])
            said = [process.communicate(timeout=60)[0].strip() for process in processes]
        finally:
            for process in processes:
                process.kill()
    last = versions()[-1]
    assert sorted(said) == sorted([str((None, last)), *[str((last, last))] * 2])
    assert [p.returncode for p in processes] == [0, 0, 0]


class TestLockedTable:
    """A session reads a table in a long transaction, and a version wants to alter it."""

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(schema, "LOCK_SECONDS", 0.5)
        monkeypatch.setattr(schema, "RETRY_SECONDS", 0.1)

    @pytest.fixture
    def reader(self, postgres: PostgresResource, sandbox: Sandbox, add_version: AddVersion) -> Iterator[Any]:
        add_version(
            "CREATE TABLE quper.more (n integer)", "ALTER TABLE quper.node_details ADD COLUMN extra integer"
        )
        with closing(sandbox.connect_quper()) as connection:
            connection.cursor().execute("SELECT FROM quper.node_details")
            yield connection

    def test_it_gives_up_without_a_change_and_without_holding_others_up(
        self, postgres: PostgresResource, target: Query, sandbox: Sandbox, reader: Any
    ) -> None:
        before, first = catalog(target), recorded(target)
        with ThreadPoolExecutor(1) as threads, statements(postgres.engine()) as sent:
            migration = threads.submit(ensure_schema, postgres)
            longest = 0.0
            try:
                with closing(sandbox.connect_quper()) as other, other.cursor() as cursor:
                    other.autocommit = True
                    deadline = time.monotonic() + 60
                    while not migration.done() and time.monotonic() < deadline:
                        started = time.monotonic()
                        cursor.execute(
                            "SET statement_timeout = '20s'; SELECT count(*) FROM quper.node_details"
                        )
                        longest = max(longest, time.monotonic() - started)
            finally:
                reader.rollback()
            error = migration.exception(timeout=60)
        assert isinstance(error, SyncError)
        assert (error.sqlstate, error.error_class) == ("55P03", ErrorClass.TRANSIENT)
        assert sum(statement.startswith("ALTER TABLE") for statement in sent) == 5
        # It stood behind the migration, and no longer than that stood.
        assert 0.2 < longest < 3 * schema.LOCK_SECONDS
        assert catalog(target) == before and recorded(target) == first
        ensure_schema(postgres)
        assert recorded(target) == [(versions()[-1],)]

    def test_it_tries_again(self, postgres: PostgresResource, target: Query, reader: Any) -> None:
        tries = 0

        def let_go(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
            nonlocal tries
            tries += statement.startswith("ALTER TABLE")
            if tries == 2:
                reader.rollback()

        sa.event.listen(postgres.engine(), "before_cursor_execute", let_go)
        ensure_schema(postgres)
        assert tries == 2
        assert recorded(target) == [(versions()[-1],)]
