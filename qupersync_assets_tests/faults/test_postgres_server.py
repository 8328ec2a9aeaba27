"""Failures of the target PostgreSQL: only whole batches are written, transient errors are retried.

The target is a separate server, so that it can be stopped while the simulated Redshift runs. Its log contains
the SQLSTATE of each error.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from qupersync_assets.core.errors import SyncError
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sandbox.server.postgres_server import PostgresServer
from qupersync_assets.settings import Settings
from qupersync_assets_tests.faults.conftest import NODES, Check, holding, meanwhile, until
from qupersync_assets_tests.support.integration import Materialize, Query

PASSWORD = secrets.token_hex(16)
CONNECTIONS = 16  # PostgreSQL reserves three for superusers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    settings = {
        "max_connections": str(CONNECTIONS),
        "synchronous_commit": "on",  # a committed batch survives a crash
        "log_line_prefix": "%e %u ",
    }
    with PostgresServer(tmp_path_factory.mktemp("target"), settings) as running:
        with closing(psycopg2.connect(running.dsn("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE ROLE qupersync LOGIN PASSWORD '{PASSWORD}'")
                cursor.execute("CREATE DATABASE quper OWNER qupersync")
        yield running


@pytest.fixture
def environment(
    environment: dict[str, str], server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    server.start()  # if a test has failed while it was down
    variables = {"POSTGRES_HOST": server.host, "POSTGRES_PORT": str(server.port), "POSTGRES_PASSWORD": PASSWORD}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with closing(psycopg2.connect(server.dsn("quper"))) as connection, connection, connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS quper CASCADE")
    yield {**environment, **variables}
    with closing(psycopg2.connect(server.dsn("quper"))) as connection, connection, connection.cursor() as cursor:
        cursor.execute("ALTER ROLE qupersync RESET ALL")


@pytest.fixture
def target(server: PostgresServer, environment: dict[str, str]) -> Query:
    def run(sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(server.dsn("quper"))
        with closing(connection), connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def errors(server: PostgresServer, environment: dict[str, str]) -> Callable[[str], int]:
    """Return how many errors with a SQLSTATE the user qupersync got since the test began."""
    before = server.log.stat().st_size

    def count(sqlstate: str) -> int:
        text = server.log.read_text("utf-8", "replace")  # truncated when the server starts
        since = text[before:] if len(text) >= before else text
        return len(re.findall(rf"^{sqlstate} qupersync (?:ERROR|FATAL)", since, re.M))

    return count


@pytest.fixture
def nodes(source: Query, tables: None) -> None:
    """2500 rows to load, and the tables to load them into."""
    source(NODES, [1, 2500])


@pytest.fixture
def blocker(nodes: None, server: PostgresServer) -> Iterator[Any]:
    """A session that blocks the second batch until its transaction ends."""
    row = "INSERT INTO quper.node_details (cluster, node) VALUES ('sandbox', 1500)"
    with holding(psycopg2.connect(server.dsn("quper")), row) as connection:
        yield connection


Waiting = Callable[[], int]


@pytest.fixture
def waiting(target: Query) -> Waiting:
    """Waits until a batch waits for a lock; returns its server process."""

    def wait() -> int:
        sql = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'qupersync'"
        pid: int = until(lambda: target(sql))[0][0]
        return pid

    return wait


FULL_READ = (2500, 2500, 0, 0, 0, 0, 3, "success")
Logged = Callable[[str], tuple[Any, ...]]


@pytest.mark.parametrize(("setting", "sqlstate"), [("lock_timeout = 300", "55P03"), ("statement_timeout", "57014")])
def test_a_batch_that_times_out_is_retried(
    blocker: Any,
    errors: Callable[[str], int],
    materialize: Materialize,
    target: Query,
    logged: Logged,
    converges: Check,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    sqlstate: str,
) -> None:
    if setting == "statement_timeout":
        monkeypatch.setenv("POSTGRES_STATEMENT_TIMEOUT", "1")
    else:
        target(f"ALTER ROLE qupersync SET {setting}")

    def release() -> None:
        until(lambda: errors(sqlstate))
        blocker.rollback()

    with meanwhile(release):
        assert materialize("node_details").success
    assert logged("node_details_sync") == FULL_READ
    converges("node_details")


@pytest.mark.parametrize(("setting", "sqlstate"), [("lock_timeout = 300", "55P03"), ("statement_timeout", "57014")])
def test_a_timeout_while_a_batch_is_split_skips_no_row(
    nodes: None,
    server: PostgresServer,
    errors: Callable[[str], int],
    materialize: Materialize,
    target: Query,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    sqlstate: str,
) -> None:
    # A row before the locked one splits the batch.
    target("ALTER TABLE quper.node_details ADD CHECK (node <> 1100)")
    if setting == "statement_timeout":
        monkeypatch.setenv("POSTGRES_STATEMENT_TIMEOUT", "1")
    else:
        target(f"ALTER ROLE qupersync SET {setting}")

    row = "INSERT INTO quper.node_details (cluster, node) VALUES ('sandbox', 1500)"
    with holding(psycopg2.connect(server.dsn("quper")), row) as blocker:

        def release() -> None:
            until(lambda: errors(sqlstate))
            blocker.rollback()

        with meanwhile(release):
            assert materialize("node_details").success
    assert errors("23514") > 3
    assert logged("node_details_sync") == (2500, 2499, 0, 0, 0, 1, 3, "success")
    assert target("SELECT row->>'node' FROM quper.skipped_rows") == [("1100",)]


def test_a_deadlock_is_retried(
    blocker: Any,
    waiting: Waiting,
    errors: Callable[[str], int],
    materialize: Materialize,
    target: Query,
    logged: Logged,
    converges: Check,
) -> None:
    # The batch detects the deadlock first and is canceled, not the test's session.
    target("ALTER ROLE qupersync SET deadlock_timeout = '1s'")

    def lock_out() -> None:
        with blocker.cursor() as cursor:
            cursor.execute("SET deadlock_timeout = '1h'")
            waiting()  # has written node 1400, wants 1500
            cursor.execute("INSERT INTO quper.node_details (cluster, node) VALUES ('sandbox', 1400)")
        blocker.rollback()

    with meanwhile(lock_out):
        assert materialize("node_details").success
    assert errors("40P01") == 1
    assert logged("node_details_sync") == FULL_READ
    converges("node_details")


def test_a_serialization_failure_is_retried(
    nodes: None, errors: Callable[[str], int], materialize: Materialize, target: Query, logged: Logged, converges: Check
) -> None:
    # Sessions are pinned to READ COMMITTED, which has none; a trigger of the user may still end with one.
    target(
        "CREATE SEQUENCE quper.inserts; GRANT USAGE ON SEQUENCE quper.inserts TO PUBLIC;"
        "CREATE FUNCTION quper.fail_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF nextval('quper.inserts') = 1500 THEN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END IF; "
        "RETURN NEW; END $$;"
        "CREATE TRIGGER fail_once BEFORE INSERT ON quper.node_details FOR EACH ROW EXECUTE FUNCTION quper.fail_once()"
    )
    assert materialize("node_details").success
    assert errors("40001") == 1
    assert logged("node_details_sync") == FULL_READ
    target("DROP TRIGGER fail_once ON quper.node_details")
    converges("node_details")


def test_a_canceled_copy_is_retried(
    blocker: Any,
    waiting: Waiting,
    server: PostgresServer,
    errors: Callable[[str], int],
    materialize: Materialize,
    target: Query,
    logged: Logged,
    converges: Check,
) -> None:
    # Errors of COPY are raised by the driver, not by SQLAlchemy. On a dead connection the failed rollback hides
    # them, so this error leaves the connection usable.
    def cancel() -> None:
        waiting()
        staging = target("SELECT oid::regclass::text FROM pg_class WHERE relpersistence = 't' AND relname ~ '^staging'")
        with closing(psycopg2.connect(server.dsn("quper"))) as second, second.cursor() as cursor:
            # The lock waits for the second batch, and blocks the third.
            with meanwhile(lambda: cursor.execute(f"LOCK TABLE {staging[0][0]}")):
                until(lambda: target("SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"))
                blocker.rollback()
            copying = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ '^COPY'"
            until(lambda: target(f"SELECT pg_cancel_backend(pid) {copying}"))
            until(lambda: errors("57014"))

    with meanwhile(cancel):
        assert materialize("node_details").success
    assert "canceling statement due to user request" in server.log.read_text("utf-8", "replace")
    assert logged("node_details_sync") == FULL_READ
    converges("node_details")


def test_a_killed_server_process_is_replaced(
    blocker: Any,
    waiting: Waiting,
    server: PostgresServer,
    materialize: Materialize,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
    converges: Check,
) -> None:
    monkeypatch.setenv("SYNC_RETRY_DELAY", "1")
    monkeypatch.setenv("SYNC_MAX_RETRIES", "3")  # PostgreSQL recovers slowly on a busy machine
    with meanwhile(lambda: os.kill(waiting(), signal.SIGKILL)):
        assert materialize("node_details").success
    # PostgreSQL has ended all sessions and recovered; so the blocker has ended too.
    log = server.log.read_text("utf-8", "replace")
    assert "was terminated by signal 9" in log and "automatic recovery in progress" in log
    rows, inserted, *_, status = logged("node_details_sync")
    assert (rows, status) == (2500, "success") and inserted in (1500, 2500)
    converges("node_details")


@pytest.mark.parametrize("restarts", [True, False])
def test_a_server_shutdown_leaves_whole_batches(
    blocker: Any,
    waiting: Waiting,
    server: PostgresServer,
    materialize: Materialize,
    target: Query,
    monkeypatch: pytest.MonkeyPatch,
    sound: Check,
    converges: Check,
    restarts: bool,
) -> None:
    monkeypatch.setenv("SYNC_RETRY_DELAY", "3" if restarts else "0")
    pids = [server.pid]

    def stop() -> None:
        waiting()
        os.kill(server.pid or 0, signal.SIGQUIT)
        server.stop()
        if restarts:
            server.start()

    with meanwhile(stop):
        result = materialize("node_details")
    if not restarts:
        assert not result.success
        server.start()
        # Whole batches only, with their counts; the server may lose the last ones. The row could not be closed.
        [(count,)] = target("SELECT count(*) FROM quper.node_details")
        assert count in (0, 1000)
        assert target(
            "SELECT status, rows_inserted, batches FROM quper.sync_logs WHERE run_id = %s", [result.run_id]
        ) == [("running", count, count // 1000)]
    else:
        assert result.success
    assert server.pid not in pids
    converges("node_details")
    ((status, error),) = target("SELECT status, error FROM quper.sync_logs WHERE run_id = %s", [result.run_id])
    assert (status, error is None) == (("success", True) if restarts else ("failed", False))
    sound()


def test_a_refused_connection_at_the_limit_is_retried(
    nodes: None,
    server: PostgresServer,
    errors: Callable[[str], int],
    materialize: Materialize,
    target: Query,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
    converges: Check,
) -> None:
    monkeypatch.setenv("SYNC_RETRY_DELAY", "1")
    # Connections in the pool of an earlier run would make room later.
    target("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'qupersync'")
    with ExitStack() as crowd:
        with pytest.raises(psycopg2.OperationalError):
            for _ in range(CONNECTIONS):
                dsn = server.dsn("quper")
                crowd.enter_context(closing(psycopg2.connect(dsn, user="qupersync", password=PASSWORD)))
        before = errors("53300")

        def leave() -> None:
            until(lambda: errors("53300") > before)
            crowd.close()

        with meanwhile(leave):
            assert materialize("node_details").success
    assert logged("node_details_sync") == FULL_READ
    converges("node_details")


def test_the_limit_of_temporary_files_is_an_error(
    nodes: None,
    errors: Callable[[str], int],
    materialize: Materialize,
    target: Query,
    monkeypatch: pytest.MonkeyPatch,
    sound: Check,
    converges: Check,
) -> None:
    monkeypatch.setenv("SYNC_BATCH_SIZE", "2500")
    target("ALTER ROLE qupersync SET work_mem = '64kB'; ALTER ROLE qupersync SET temp_file_limit = '64kB'")
    result = materialize("node_details")
    assert not result.success
    assert errors("53400") > 2  # tries of the batch, in two of the step
    assert target("SELECT count(*) FROM quper.node_details") == [(0,)]
    ((error, attempts),) = target("SELECT error, attempts FROM quper.sync_logs WHERE run_id = %s", [result.run_id])
    assert "53400" in error and attempts == 2
    with pytest.raises(SyncError, match="53400"):
        PostgresResource(Settings.load()).check()
    sound()
    target("ALTER ROLE qupersync RESET ALL")
    converges("node_details")


@pytest.mark.parametrize("skipped", [0, 1])
def test_a_full_disk_is_retried_and_skips_no_row(
    nodes: None,
    server: PostgresServer,
    errors: Callable[[str], int],
    materialize: Materialize,
    target: Query,
    logged: Logged,
    converges: Check,
    skipped: int,
) -> None:
    # Replace the file of the table by /dev/full, to which each write fails with ENOSPC:
    # https://man7.org/linux/man-pages/man4/full.4.html
    target("TRUNCATE quper.node_details")
    if skipped:  # a row that is refused before any other is written splits its batch
        target("ALTER TABLE quper.node_details ADD CHECK (node <> 1)")
    file = Path(server.data, target("SELECT pg_relation_filepath('quper.node_details')")[0][0])
    empty = file.with_name(file.name + ".empty")
    file.rename(empty)
    file.symlink_to("/dev/full")

    def make_room() -> None:
        try:
            until(lambda: errors("53100"))
        finally:
            empty.replace(file)
            # The session of the sync still has the old file open.
            target("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'qupersync'")

    with meanwhile(make_room):
        assert materialize("node_details").success
    assert logged("node_details_sync") == (2500, 2500 - skipped, 0, 0, 0, skipped, 3, "success")
    if skipped:
        assert errors("23514") > 3
    else:
        converges("node_details")


def test_a_read_only_server_is_an_error(
    nodes: None, errors: Callable[[str], int], materialize: Materialize, target: Query, converges: Check
) -> None:
    # A standby responds so after a failover, until POSTGRES_HOST names the new primary.
    target("ALTER ROLE qupersync SET default_transaction_read_only = on")
    result = materialize("node_details")
    assert not result.success
    assert errors("25006") == 2  # retried once
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert "25006" in str(failure.step_failure_data.error) and "POSTGRES_HOST" in str(failure.step_failure_data.error)
    target("ALTER ROLE qupersync RESET ALL")
    converges("node_details")


def test_a_failover_within_a_load_continues_over_a_new_connection(
    nodes: None, errors: Callable[[str], int], materialize: Materialize, target: Query, logged: Logged, converges: Check
) -> None:
    # The old primary accepts no change of the sessions that it still has.
    target(
        "CREATE SEQUENCE quper.inserts; CREATE SEQUENCE quper.old_session; "
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA quper TO PUBLIC;"
        "CREATE FUNCTION quper.fail_over() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN "
        "n := nextval('quper.inserts'); "
        "IF n = 1 THEN PERFORM setval('quper.old_session', pg_backend_pid()); END IF; "
        "IF n >= 1500 AND pg_backend_pid() = (SELECT last_value FROM quper.old_session) THEN "
        "RAISE EXCEPTION 'cannot execute COPY in a read-only transaction' USING ERRCODE = '25006'; END IF; "
        "RETURN NEW; END $$;"
        "CREATE TRIGGER fail_over BEFORE INSERT ON quper.node_details FOR EACH ROW EXECUTE FUNCTION quper.fail_over()"
    )
    assert materialize("node_details").success
    assert errors("25006") == 1 and target("SELECT attempts FROM quper.sync_logs") == [(1,)]
    assert logged("node_details_sync") == FULL_READ
    target("DROP TRIGGER fail_over ON quper.node_details")
    converges("node_details")
