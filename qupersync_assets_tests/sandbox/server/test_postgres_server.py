"""Tests of the sandbox's PostgreSQL server: start and stop, also after a crash."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from qupersync_assets.sandbox.server.postgres_server import PostgresServer, SandboxError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path / "server") as running:
        yield running


def _query(server: PostgresServer, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(server.dsn("postgres"))) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def _pid(server: PostgresServer) -> int:
    assert server.pid is not None
    return server.pid


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _processes(server: PostgresServer) -> list[int]:
    pid = _pid(server)
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def test_restart_keeps_data_port_and_password(server: PostgresServer) -> None:
    _query(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    before = server.dsn("postgres")
    server.stop()
    server.start()
    assert server.dsn("postgres") == before
    assert _query(server, "SELECT answer FROM kept") == [(42,)]


def test_stop_ends_all_processes(server: PostgresServer) -> None:
    processes = _processes(server)
    assert len(processes) > 1
    server.stop()
    assert not [pid for pid in processes if _alive(pid)]
    assert server.pid is None


def test_server_listens_on_loopback_and_requires_password(server: PostgresServer) -> None:
    listening = {
        (c.laddr.ip, c.laddr.port) for c in psutil.Process(server.pid).net_connections() if c.status == "LISTEN"
    }
    assert listening == {("127.0.0.1", server.port)}
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(server.dsn("postgres"), password="wrong")
    assert (server.folder / "password").stat().st_mode & 0o777 == 0o600


def test_server_runs_in_separate_session(server: PostgresServer) -> None:
    assert os.getsid(_pid(server)) == server.pid != os.getsid(0)


def test_server_starts_after_sigkill(server: PostgresServer) -> None:
    _query(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    _query(server, "CHECKPOINT")  # without synchronous_commit the last commits may be lost in a crash
    os.kill(_pid(server), signal.SIGKILL)
    server.stop()
    assert (server.data / "postmaster.pid").exists()
    server.start()
    assert _query(server, "SELECT answer FROM kept") == [(42,)]
    assert "not properly shut down" in server.log.read_text()


def test_restart_requires_same_port(server: PostgresServer) -> None:
    port, first = server.port, _pid(server)
    assert server.poll() is None
    os.kill(first, signal.SIGKILL)
    while server.poll() is None:
        os.sched_yield()
    assert server.poll() == -signal.SIGKILL
    with socket.create_server(("127.0.0.1", port)), pytest.raises(SandboxError, match="could not create listen socket"):
        server.restart()
    server.restart()
    assert _query(server, "SELECT 1") == [(1,)]
    assert server.port == port and server.pid != first and server.poll() is None


def test_start_stops_orphan_of_killed_parent(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    script = (
        "import pathlib, sys, time; from qupersync_assets.sandbox.server.postgres_server import PostgresServer\n"
        "server = PostgresServer(pathlib.Path(sys.argv[1])); server.start()\n"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, folder], stdout=subprocess.PIPE, text=True) as parent:
        orphan = int(parent.stdout.readline())
        with pytest.raises(SandboxError, match="in use by another process"):
            PostgresServer(folder).start()
        parent.kill()
    assert _alive(orphan)
    with PostgresServer(folder) as server:
        assert _query(server, "SELECT 1") == [(1,)]
        assert server.pid != orphan
        assert not _alive(orphan)


def test_pid_file_of_another_process_is_removed(server: PostgresServer) -> None:
    server.stop()
    with subprocess.Popen(["sleep", "60"]) as other:
        (server.data / "postmaster.pid").write_text(f"{other.pid}\n{server.data}\n")
        server.start()
        assert _query(server, "SELECT 1") == [(1,)]
        assert other.poll() is None
        other.kill()


def test_port_in_use_is_replaced(server: PostgresServer) -> None:
    server.stop()
    taken = server.port
    with socket.create_server(("127.0.0.1", taken)):
        server.start()
        assert server.port != taken
        assert _query(server, "SELECT 1") == [(1,)]


def test_interrupted_initdb_is_repeated(server: PostgresServer) -> None:
    server.stop()
    server.data.rename(server.folder / "data.incomplete")
    server.start()
    assert _query(server, "SELECT 1") == [(1,)]


def test_errors_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SandboxError, match="cannot be used: Not a directory"):
        PostgresServer(tmp_path / "file" / "server").start()
    refused = PostgresServer(tmp_path / "server", {"shared_buffers": "many"})
    with pytest.raises(SandboxError, match=r'did not start in .*invalid value for parameter "shared_buffers"'):
        refused.start()
    assert refused.pid is None
    with PostgresServer(tmp_path / "server") as server:
        assert _query(server, "SELECT 1") == [(1,)]


def test_missing_setpriv_is_reported_to_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SandboxError, match="needs `setpriv`"):
        PostgresServer(tmp_path / "server").start()
