"""`make demo`: each reason not to start is one sentence, and no process remains."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from qupersync_assets.sandbox.rules.dialect import MODES
from qupersync_assets_tests.support.demo_process import remaining_processes


def demo(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not re.match("SYNC_|REDSHIFT_|POSTGRES_|CLUSTER_", name)
    }
    return subprocess.run(
        [sys.executable, "-m", "qupersync_assets.sandbox.demo", *arguments],
        cwd=project,
        env={**environment, "COLUMNS": "140", **variables},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_unknown_mode_is_one_sentence(project: Path) -> None:
    answer = demo(project, "--once", "--mode", "Multi-AZ")
    assert answer.returncode == 1
    assert answer.stdout.count("\n") == 1 and all(mode in answer.stdout for mode in ("Multi-AZ", *MODES))
    assert "Traceback" not in answer.stderr


def test_second_demo_at_the_same_time_is_refused(project: Path) -> None:
    (project / ".qupersync").mkdir()
    with (project / ".qupersync" / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = demo(project, "--once")
    assert answer.returncode == 1
    assert "is already running" in answer.stdout and "Traceback" not in answer.stdout + answer.stderr


def test_port_in_use_is_one_sentence(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = demo(project, UI_PORT=str(taken.getsockname()[1]))
    assert answer.returncode == 1
    assert "PORT=" in answer.stdout
    assert "Traceback" not in answer.stdout + answer.stderr
    assert not remaining_processes(project)


def test_invalid_port_is_one_sentence(project: Path) -> None:
    answer = demo(project, UI_PORT="abc")
    assert answer.returncode == 1
    assert "'abc'" in answer.stdout and "65535" in answer.stdout
    assert "Traceback" not in answer.stdout + answer.stderr


def test_folder_without_write_access_is_one_sentence(project: Path) -> None:
    (project / ".qupersync").write_text("a file in the way, which root cannot write into either")
    answer = demo(project, "--once")
    assert answer.returncode == 1
    assert "cannot be written" in answer.stdout
    assert "Traceback" not in answer.stdout + answer.stderr
