"""`make demo`: after any process is killed, syncs continue, and source and target are equal again."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from qupersync_assets.sandbox.workload.workload import LOCK
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.demo_process import Demo, execute, has_ended, remaining_processes, until, waiting
from qupersync_assets_tests.support.expected_rows import TIMES, oracle

INTERVAL = 10
# Two intervals, and the time to start Dagster and a run on a busy machine.
SOON = 2 * INTERVAL + 70


class PausedDemo(Demo):
    """`make demo` with a sync every ten seconds, whose workload is paused except for `advance()`."""

    def __init__(self, project: Path) -> None:
        super().__init__(project, INTERVAL, SYNC_RETRY_DELAY="1", SYNC_JOBS="default")

    def child(self, word: str) -> psutil.Process | None:
        """Return the child of the demo with that word in its command."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
                if word in " ".join(child.cmdline()):
                    return child
        return None

    def pause(self) -> None:
        """Hold the lock of the workload until `end_pause()` or the end of PostgreSQL."""
        self._pause = self.sandbox.connect_redshift()
        self._pause.autocommit = True
        self._in_pause("SELECT pg_advisory_lock(%s)")

    def end_pause(self) -> None:
        self._pause.close()

    def advance(self) -> None:
        """Let the waiting workload advance once."""
        until(lambda: waiting(self.sandbox.connect_redshift, "wait_event = 'advisory'"), SOON)
        self._in_pause("SELECT pg_advisory_unlock(%s)")
        self._in_pause("SELECT pg_advisory_lock(%s)")

    def _in_pause(self, statement: str) -> None:
        with self._pause.cursor() as cursor:
            cursor.execute(statement, [LOCK])

    def compare(self) -> None:
        """Assert that source and target are equal."""

        def source(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
            return _query(self.sandbox.connect_redshift, sql, parameters)

        def target(sql: str) -> list[tuple[Any, ...]]:
            return _query(self.sandbox.connect_quper, sql)

        for spec in default_specs():
            expected, actual = oracle(spec, source, target)
            assert len(actual) > 1 and actual == expected, spec.sync_job_id

    def recovers(self, since: float) -> None:
        """Assert that a whole run follows, that no older row is `running`, and that source and target are equal."""
        until(lambda: self.complete_run(after=since), SOON)
        assert not self.open_runs(before=since)
        self.compare()


def _query(connect: Any, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with closing(connect()) as connection, connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def demo(new_project: Any) -> Iterator[PausedDemo]:
    """A running demo without rows that expire during the tests; at the end Ctrl-C stops all its processes."""
    project = new_project()
    running = PausedDemo(project)
    try:
        until(lambda: "Dagster UI" in running.output() or running.process.poll() is not None, 240)
        assert running.process.poll() is None, running.output()
        running.pause()
        for view, column in TIMES.items():
            execute(
                running.sandbox.connect_redshift,
                f"DELETE FROM redshift.{view} WHERE {column} "
                "BETWEEN '2010-01-01' AND redshift.getdate() - interval '6 days 23 hours'",
            )
        running.advance()  # it deletes rows that depended on them
        deleted_at = time.time()
        until(lambda: running.complete_run(after=deleted_at), SOON)  # no older run has read the deleted rows
        for spec in default_specs():
            execute(running.sandbox.connect_quper, f"TRUNCATE {spec.table.fullname}")
        yield running
        running.end_pause()
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0, running.output()
        assert not remaining_processes(project)
    finally:
        if running.process.poll() is None:
            running.process.terminate()
            running.process.wait(60)


JOB = "alert_events_sync"
BLOCKED = "wait_event = 'relation' AND usename = 'qupersync'"


class Held:
    """A run whose step of JOB waits for a lock of its table: its processes, from the step up to the run server."""

    def __init__(self, demo: PausedDemo, blocker: Any) -> None:
        demo.advance()
        self.blocker = blocker
        self._demo = demo
        self._lock()
        (self.run_id,) = until(self._is_held, SOON)
        until(self.find, SOON)

    def find(self) -> bool:
        """Find the processes; return False if there are none."""
        sessions = _query(
            self._demo.sandbox.connect_quper, f"SELECT client_port, pid FROM pg_stat_activity WHERE {BLOCKED}"
        )
        for port, self.backend in sessions:
            for end in psutil.net_connections("tcp"):
                if end.laddr.port == port and end.raddr and end.pid:
                    self.step = psutil.Process(end.pid)
                    self.run, self.server, *_ = self.step.parents()
                    if self.server == self._demo.child("run_server"):  # else a run without steps waits, too
                        return True
        return False

    def _lock(self) -> None:
        self.blocker.rollback()
        with self.blocker.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{SOON} s'; LOCK TABLE quper.alert_events")

    def _is_held(self) -> list[str]:
        if not waiting(self._demo.sandbox.connect_quper, BLOCKED):
            return []
        found = self._demo.runs("running", JOB)
        if not found:
            self._lock()  # the step waits before or after its load: wait for the next one
        return found


@pytest.fixture
def held(demo: PausedDemo) -> Iterator[Held]:
    """A run that waits until the blocker's transaction ends."""
    with closing(demo.sandbox.connect_quper()) as blocker:
        yield Held(demo, blocker)


def kill(*processes: psutil.Process) -> float:
    """Kill the processes, wait for their end, and return its time."""
    for process in processes:
        process.kill()
    until(lambda: all(has_ended(process) for process in processes), 20)
    return time.time()


def test_syncs_continue_after_a_step_and_its_run_are_killed(demo: PausedDemo, held: Held) -> None:
    first = held.step
    kill(first)
    # Otherwise the server process ends only after its wait for the lock.
    execute(demo.sandbox.connect_quper, f"SELECT pg_terminate_backend({held.backend})")
    until(lambda: held.find() and held.step != first, SOON)
    since = kill(held.run)
    until(lambda: has_ended(held.step), 20)  # no step outlives its run
    held.blocker.rollback()
    demo.recovers(since)
    assert demo.status(held.run_id) == "FAILURE"


def test_syncs_continue_after_the_run_server_is_killed(demo: PausedDemo, held: Held) -> None:
    since = kill(held.server)
    until(lambda: has_ended(held.run) and has_ended(held.step), 20)
    held.blocker.rollback()
    demo.recovers(since)
    assert demo.status(held.run_id) == "FAILURE"
    assert "qupersync-runs was killed by SIGKILL" in demo.output()
    assert demo.child("run_server") not in (None, held.server)


def test_a_run_finishes_after_the_daemon_is_killed(demo: PausedDemo, held: Held) -> None:
    since = kill(demo.child("dagster-daemon"))
    until(lambda: demo.child("dagster-daemon"), SOON)
    assert not has_ended(held.run)
    held.blocker.rollback()
    demo.recovers(since)
    assert held.run_id in demo.runs("success", JOB)
    assert demo.status(held.run_id) == "SUCCESS"
    assert "dagster-daemon was killed by SIGKILL" in demo.output()


def test_the_webserver_is_restarted_after_it_is_killed(demo: PausedDemo) -> None:
    demo.advance()
    webserver = demo.child("qupersync_assets.webserver")
    since = kill(webserver)
    demo.recovers(since)
    until(lambda: demo.answers(), SOON)
    assert demo.child("qupersync_assets.webserver") not in (None, webserver)
    assert "dagster-webserver was killed by SIGKILL" in demo.output()


def test_syncs_continue_after_postgresql_is_killed(demo: PausedDemo, held: Held) -> None:
    # When a backend is killed, PostgreSQL ends all sessions and restarts its processes.
    kill(psutil.Process(held.backend))
    with pytest.raises(psycopg2.OperationalError):
        held.blocker.cursor().execute("SELECT 1")
    until(demo.sandbox.connect_quper, SOON).close()
    postmaster = demo.child("postgres")
    kill(postmaster, *postmaster.children(recursive=True))
    until(lambda: demo.pause() is None, SOON)
    assert demo.child("postgres") not in (None, postmaster)
    assert "PostgreSQL was killed by SIGKILL" in demo.output()
    demo.recovers(time.time())
