"""`make demo ONCE=1`: all jobs succeed, the second time with nothing but news, and nothing is left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import psutil


def demo(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not re.match("SYNC_|REDSHIFT_|POSTGRES_|CLUSTER_", name)
    }
    return subprocess.run(
        [sys.executable, "-m", "qupersync_assets.sandbox.demo", *arguments],
        cwd=project,
        env={**environment, "COLUMNS": "140", **variables},
        capture_output=True,
        text=True,
        timeout=240,
    )


def summary(output: str) -> list[list[str]]:
    """The cells of the summary's rows."""
    return [
        cells
        for cells in map(str.split, output.splitlines())
        if len(cells) == 9 and cells[0].endswith("_sync")
    ]


def left_over(project: Path) -> list[str]:
    """Processes that work in the project's folder or have it in their environment or command."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(project) or str(project) in " ".join(
                [*process.cmdline(), *process.environ().values()]
            ):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
    locks = [str(path) for path in project.glob(".qupersync/**/*lock") if path.is_file()]
    return found + locks


def test_once_and_once_more(project: Path) -> None:
    first = demo(project, "--once")
    assert first.returncode == 0, first.stdout + first.stderr
    rows = summary(first.stdout)
    assert len(rows) == 8 and all(row[-1] == "success" for row in rows), first.stdout
    assert all(row[1] == row[2] != "0" for row in rows)  # all extracted rows are inserted
    assert "Traceback" not in first.stderr
    assert not left_over(project)

    second = demo(project, "--once")
    assert second.returncode == 0, second.stdout + second.stderr
    queries = next(row for row in summary(second.stdout) if row[0] == "query_history_sync")
    extracted, inserted, unchanged = (int(queries[i].replace(",", "")) for i in (1, 2, 4))
    assert 0 < inserted < extracted / 2 < unchanged


def test_a_second_demo_is_refused(project: Path) -> None:
    (project / ".qupersync").mkdir()
    with (project / ".qupersync" / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = demo(project, "--once")
    assert answer.returncode == 1
    assert "is running" in answer.stdout and "Traceback" not in answer.stdout + answer.stderr


def test_a_taken_port_is_one_sentence(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = demo(project, UI_PORT=str(taken.getsockname()[1]))
    assert answer.returncode == 1
    assert "PORT=" in answer.stdout
    assert "Traceback" not in answer.stdout + answer.stderr
    assert not left_over(project)


def test_what_is_no_port_is_one_sentence(project: Path) -> None:
    answer = demo(project, UI_PORT="abc")
    assert answer.returncode == 1
    assert "'abc'" in answer.stdout and "65535" in answer.stdout
    assert "Traceback" not in answer.stdout + answer.stderr


def test_a_folder_that_cannot_be_written_is_one_sentence(project: Path) -> None:
    (project / ".qupersync").write_text("a file in the way, which root cannot write into either")
    answer = demo(project, "--once")
    assert answer.returncode == 1
    assert "cannot be written" in answer.stdout
    assert "Traceback" not in answer.stdout + answer.stderr
