"""Migrations: the schema equals the models, and one transaction migrates it without blocking readers."""

from __future__ import annotations

import os
import re
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
from qupersync_assets.postgres.schema import VersionState, check_version, ensure_schema, migrate, read_version, versions
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.spec import METADATA, SyncSpec
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.integration import Materialize, Query
from qupersync_assets_tests.support.schema_catalog import (
    catalog,
    catalog_of_models,
    create_adopted,
    create_version,
    fill,
    rows,
)

AddVersion = Callable[..., str]


def recorded(target: Query) -> list[tuple[Any, ...]]:
    return target("SELECT version_num FROM quper.schema_version")


@contextmanager
def statements(engine: sa.Engine) -> Iterator[list[str]]:
    """Collect the statements that are sent to PostgreSQL."""
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
    """Add a version that executes the given SQL statements; return it."""
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


def as_0005(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of version 0004 or 0005 as version 0005 has it, without new columns."""
    new = {{"read_why": "read_reason"}.get(name, name): value for name, value in row.items()}
    if isinstance(new.get("columns_missing"), str):
        new["columns_missing"] = new["columns_missing"].split(", ")
    return new


@pytest.mark.parametrize("start", ["empty", "adopted", *versions()[:-1]])
def test_a_migrated_schema_equals_the_models_and_keeps_its_rows(
    bare: PostgresResource, target: Query, start: str
) -> None:
    models = catalog_of_models(bare, target)
    before: dict[str, list[dict[str, Any]]] = {}
    if start != "empty":
        create_adopted(bare) if start == "adopted" else create_version(bare, start)
        fill(target)
        before = rows(target)
        # A later version may have more tables.
        assert before.keys() >= {"sync_logs", "skipped_rows", "query_history", "alert_events", "vacuum_history"}
        assert all(len(kept) == 2 for kept in before.values())
    ensure_schema(bare)
    assert catalog(target) == models
    assert recorded(target) == [(versions()[-1],)]
    after = rows(target)
    for table, kept in before.items():
        assert len(after[table]) == 2
        for old, new in zip(kept, after[table], strict=True):
            assert as_0005(old).items() <= new.items()


def test_the_baseline_equals_the_schemas_that_it_adopts(bare: PostgresResource, target: Query) -> None:
    create_version(bare, "0004")
    baseline = catalog(target)
    target("DROP SCHEMA quper CASCADE")
    create_adopted(bare)
    target(
        "DROP VIEW IF EXISTS "
        + ", ".join(f"quper.{s.table.name}_current" for s in default_specs() if s.kind == "snapshot")
    )
    target("COMMENT ON TABLE quper.node_details IS NULL")
    for c in METADATA.tables["quper.node_details"].c:
        target(f"COMMENT ON COLUMN quper.node_details.{c.name} IS NULL")
    assert catalog(target) == baseline


def test_version_0005_fills_read_mode_and_splits_missing_columns(bare: PostgresResource, target: Query) -> None:
    create_adopted(bare)
    target(
        "INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at, read_why, columns_missing) "
        "SELECT 'c', 'j', n::text, 'success', now(), why, missing FROM (VALUES (1, 'news', 'a.x, a.y'), "
        "(2, 'first read of the day', 'a.x'), (3, NULL, NULL)) AS v (n, why, missing)"
    )
    ensure_schema(bare)
    assert target("SELECT read_mode, read_reason, columns_missing FROM quper.sync_logs ORDER BY run_id") == [
        ("incremental", "news", ["a.x", "a.y"]),
        ("full", "first read of the day", ["a.x"]),
        (None, None, None),
    ]


def test_versions_0008_and_0015_change_tables_that_specs_created(bare: PostgresResource, target: Query) -> None:
    migrate(bare)
    models = catalog(target)
    names = [name for kind, name in models if kind == "index" and re.search("(metrics|daily)_all_.*_idx", name)]
    assert len(names) == 4
    target(f"DROP INDEX {', '.join(names)}, quper.table_stats_all_size_mb_idx")
    target(
        "CREATE INDEX query_metrics_spilled_mb_idx ON quper.query_metrics (cluster, spilled_mb) WHERE spilled_mb > 0;"
        "CREATE INDEX table_stats_size_mb_idx ON quper.table_stats (cluster, size_mb);"
        "ALTER TABLE quper.query_metrics DROP COLUMN unsorted_rows;"
        "ALTER TABLE quper.sync_logs DROP COLUMN newest_row_at, DROP COLUMN rows_undecided, DROP COLUMN checks;"
        "UPDATE quper.schema_version SET version_num = '0007'"
    )
    migrate(bare)
    assert catalog(target) == models


def test_every_version_follows_the_one_before() -> None:
    files = sorted(Path(migrations.__file__).parent.glob("versions/0*.py"))
    first = int(files[0].name[:4])
    assert versions() == [f"{first + n:04}" for n in range(len(files))] == [f.name[:4] for f in files]


@pytest.mark.parametrize(
    ("version", "tables", "state", "remedy"),
    [
        (None, [], VersionState.NONE, "Run `qupersync migrate`."),
        (None, ["foreign"], VersionState.NONE, "Run `qupersync migrate`."),
        (None, ["node_details"], VersionState.TOO_OLD, "upgrade to 0004 with an earlier QuperSync. If"),
        ("0001", [], VersionState.TOO_OLD, "DROP SCHEMA quper CASCADE"),
        ("0003", [], VersionState.TOO_OLD, "DROP SCHEMA quper CASCADE"),
        ("0004", [], VersionState.OLDER, "Run `qupersync migrate`."),
        (versions()[-1], [], VersionState.CURRENT, "Run `qupersync migrate`."),
        (versions()[-1], [table.name for table in schema.tables()], VersionState.CURRENT, ""),
        ("9999", [], VersionState.NEWER, "Upgrade QuperSync."),
    ],
)
def test_the_state_of_a_version(version: str | None, tables: list[str], state: VersionState, remedy: str) -> None:
    found = check_version(version, tables)
    assert found.state is state
    assert remedy in found.remedy and bool(remedy) == bool(found.remedy)
    assert found.missing == tuple(sorted({table.name for table in schema.tables()} - set(tables)))


def test_a_current_schema_costs_one_statement(postgres: PostgresResource) -> None:
    with statements(postgres.engine()) as sent:
        ensure_schema(postgres)
    assert len(sent) == 1 and sent[0].startswith("SELECT")


def test_a_schema_that_appears_while_its_version_is_read_is_current(bare: PostgresResource) -> None:
    other = PostgresResource(bare.settings)
    migrated: list[object] = []

    def migrate_meanwhile(_context: sa.engine.ExceptionContext) -> None:
        migrated.append(migrate(other))

    sa.event.listen(bare.engine(), "handle_error", migrate_meanwhile, once=True)
    assert read_version(bare).state is VersionState.CURRENT
    assert migrated == [(None, versions()[-1])]


def test_migrate_returns_the_version_before_and_after(bare: PostgresResource, add_version: AddVersion) -> None:
    first = versions()[-1]
    assert migrate(bare) == (None, first)
    assert migrate(bare) == (first, first)
    add_version("ALTER TABLE quper.node_details ADD COLUMN extra integer")
    last = add_version("ALTER TABLE quper.node_details DROP COLUMN extra")
    assert migrate(bare) == (first, last)


def test_the_table_of_an_optional_job_is_created_when_it_is_needed(
    bare: PostgresResource, target: Query, optional_job: SyncSpec
) -> None:
    migrate(bare)
    before = catalog(target)
    assert ("column", "user_sessions.process") not in before
    ensure_schema(bare, [optional_job])
    with statements(bare.engine()) as sent:
        ensure_schema(bare, [optional_job])
    after = catalog(target)
    assert after[("column", "user_sessions.process")] and before.items() <= after.items()
    assert target("SELECT obj_description('quper.user_sessions'::regclass)") == [(optional_job.table.comment,)]
    assert target("SELECT count(*) FROM quper.user_sessions_current") == [(0,)]
    assert recorded(target) == [(versions()[-1],)]
    assert len(sent) == 1
    migrate(bare)
    assert catalog(target) == after


def test_an_existing_schema_needs_no_create_privilege_on_the_database(bare: PostgresResource, target: Query) -> None:
    target("CREATE SCHEMA quper AUTHORIZATION qupersync; REVOKE CREATE ON DATABASE quper FROM qupersync")
    try:
        assert migrate(bare) == (None, versions()[-1])
    finally:
        target("GRANT CREATE ON DATABASE quper TO qupersync")


@pytest.mark.parametrize("bring_up", [ensure_schema, migrate])
@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("9999", rf"version 9999; .* needs {versions()[-1]}\. Missing tables: node_details\. Upgrade QuperSync\.$"),
        ("0003", r"version 0003; .* upgrade to 0004 with an earlier QuperSync\. .* DROP SCHEMA quper CASCADE"),
        (None, r"no version; .* upgrade to 0004 with an earlier QuperSync\. .* DROP SCHEMA quper CASCADE"),
    ],
)
def test_a_newer_or_too_old_schema_is_refused(
    postgres: PostgresResource,
    target: Query,
    bring_up: Callable[[PostgresResource], object],
    version: str | None,
    message: str,
) -> None:
    # Without a table, so that there is something to do.
    target("DROP TABLE quper.node_details CASCADE")
    if version is None:
        target("DROP TABLE quper.schema_version")
    else:
        target("UPDATE quper.schema_version SET version_num = %s", [version])
    before = catalog(target)
    with pytest.raises(SyncError, match=message) as refusal:
        bring_up(postgres)
    assert refusal.value.error_class is ErrorClass.FATAL
    assert catalog(target) == before
    assert target("SELECT to_regclass('quper.schema_version') IS NULL") == [(version is None,)]
    assert version is None or recorded(target) == [(version,)]


@pytest.mark.parametrize("state", ["absent", "older", "incomplete"])
def test_a_sync_does_not_migrate_without_auto_migrate(
    materialize: Materialize,
    bare: PostgresResource,
    target: Query,
    add_version: AddVersion,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    last = versions()[-1]
    words = [f"no version; this QuperSync needs {last}.", *(table.name for table in schema.tables())]
    if state != "absent":
        migrate(bare)
        words = [f"at version {last}. Missing tables: node_details."]
    if state == "older":
        newest = add_version("ALTER TABLE quper.node_details ADD COLUMN extra integer")
        words = [f"at version {last}; this QuperSync needs {newest}."]
    elif state == "incomplete":
        target("DROP TABLE quper.node_details CASCADE")
    monkeypatch.setenv("SYNC_AUTO_MIGRATE", "false")
    result = materialize("node_details")
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    error = str(failure.step_failure_data.error)
    assert all(word in error for word in [*words, "SYNC_AUTO_MIGRATE is false. Run `qupersync migrate`."])
    assert not any(e.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY for e in result.all_events)
    migrate(bare)
    assert materialize("node_details").success


def test_a_failed_migration_changes_nothing(postgres: PostgresResource, target: Query, add_version: AddVersion) -> None:
    before, first = catalog(target), recorded(target)
    add_version("ALTER TABLE quper.node_details ADD COLUMN extra integer")
    add_version("CREATE TABLE quper.more (n integer)", "SELECT 1 / 0")
    with pytest.raises(SyncError, match="division by zero") as failure:
        ensure_schema(postgres)
    assert failure.value.error_class is ErrorClass.FATAL
    assert catalog(target) == before and recorded(target) == first


MIGRATE = """
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import migrate
from qupersync_assets.settings import Settings

print(migrate(PostgresResource(Settings.load())))
"""


@pytest.mark.parametrize("start", ["empty", "adopted", "serializable"])
def test_one_of_several_processes_migrates(
    bare: PostgresResource, target: Query, sandbox: Sandbox, request: pytest.FixtureRequest, start: str
) -> None:
    if start == "adopted":
        create_adopted(bare)
    if start == "serializable":
        request.addfinalizer(lambda: target("ALTER ROLE qupersync RESET ALL"))
        target("ALTER ROLE qupersync SET default_transaction_isolation = serializable")
    # Longer than a migration waits for a table: a process waits for another one without a limit.
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
        f"AND waitstart < clock_timestamp() - interval '{schema.LOCK_SECONDS + 0.5} s'"
    )
    with closing(sandbox.connect_quper()) as holder, holder.cursor() as cursor:
        # All processes wait here.
        cursor.execute("SELECT pg_advisory_lock(%s)", [schema._LOCK])
        processes = [
            subprocess.Popen([sys.executable, "-c", MIGRATE], env=os.environ, stdout=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        try:
            deadline = time.monotonic() + 60
            while target(waiting) != [(len(processes),)]:
                assert time.monotonic() < deadline and all(p.poll() is None for p in processes)
                time.sleep(0.05)
            cursor.execute("SELECT pg_advisory_unlock(%s)", [schema._LOCK])
            output = [process.communicate(timeout=60)[0].strip() for process in processes]
        finally:
            for process in processes:
                process.kill()
    last = versions()[-1]
    first = str(("0004" if start == "adopted" else None, last))
    assert sorted(output) == sorted([first, *[str((last, last))] * 2])
    assert [p.returncode for p in processes] == [0, 0, 0]


class TestLockedTable:
    """A session reads a table in a long transaction, and a migration alters it."""

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(schema, "LOCK_SECONDS", 0.5)
        monkeypatch.setattr(schema, "RETRY_SECONDS", 0.1)

    @pytest.fixture
    def reader(self, postgres: PostgresResource, sandbox: Sandbox, add_version: AddVersion) -> Iterator[Any]:
        add_version("CREATE TABLE quper.more (n integer)", "ALTER TABLE quper.node_details ADD COLUMN extra integer")
        with closing(sandbox.connect_quper()) as connection:
            connection.cursor().execute("SELECT FROM quper.node_details")
            yield connection

    def test_a_blocked_migration_fails_without_a_change_and_blocks_readers_briefly(
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
                        cursor.execute("SET statement_timeout = '20s'; SELECT count(*) FROM quper.node_details")
                        longest = max(longest, time.monotonic() - started)
                        time.sleep(0.01)
            finally:
                reader.rollback()
            error = migration.exception(timeout=60)
        assert isinstance(error, SyncError)
        assert (error.sqlstate, error.error_class) == ("55P03", ErrorClass.TRANSIENT)
        assert sum(statement.startswith("ALTER TABLE") for statement in sent) == 5
        # The reader waited for the migration, and only as long as the migration waited.
        assert 0.2 < longest < 3 * schema.LOCK_SECONDS
        assert catalog(target) == before and recorded(target) == first
        ensure_schema(postgres)
        assert recorded(target) == [(versions()[-1],)]

    def test_a_blocked_migration_is_tried_again(self, postgres: PostgresResource, target: Query, reader: Any) -> None:
        tries = 0

        def end_transaction(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
            nonlocal tries
            tries += statement.startswith("ALTER TABLE")
            if tries == 2:
                reader.rollback()

        sa.event.listen(postgres.engine(), "before_cursor_execute", end_transaction)
        ensure_schema(postgres)
        assert tries == 2
        assert recorded(target) == [(versions()[-1],)]
