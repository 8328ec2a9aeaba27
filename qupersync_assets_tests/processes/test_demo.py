"""`make demo ONCE=1`: all jobs succeed, a second run loads only new rows, and no process remains."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from qupersync_assets.sandbox.rules.dialect import MODES
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.demo_process import ENV_FILE, remaining_processes


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


def summary(output: str) -> dict[str, tuple[str, ...]]:
    """The cells of the summary by job: status, and rows extracted, inserted, updated, unchanged and skipped."""
    lines = re.findall(r"^(\w+_sync) +(\w+)" + 5 * r" +([\d,]+)" + "$", output, re.MULTILINE)
    return {job: tuple(cells) for job, *cells in lines}


def test_second_demo_loads_only_new_rows(project: Path) -> None:
    (project / ".env").write_text(ENV_FILE)
    first = demo(project, "--once")
    assert first.returncode == 0, first.stdout + first.stderr
    rows = summary(first.stdout)
    assert rows.keys() == {spec.sync_job_id for spec in all_specs()} - {"serverless_usage_sync"}, first.stdout
    assert f"Jobs: {len(rows)} success" in first.stdout
    assert all(extracted == inserted != "0" for _, extracted, inserted, *_ in rows.values())
    assert "Traceback" not in first.stderr
    assert not remaining_processes(project)
    *_, heading, worst, next_one, third, page = first.stdout.splitlines()
    assert heading == "Fix first:" and worst == "  critical: The storage of a node will soon be full: node 1", (
        first.stdout
    )
    assert all(re.fullmatch("  (critical|warning): .+: .+", line) for line in (next_one, third))
    file = project / ".qupersync" / "health.html"
    assert page == f"All findings, with plots: {file.resolve().as_uri()}" and "node 1" in file.read_text("utf-8")

    # Another mode, with the state of the first demo.
    second = demo(project, "--once", "--mode", "serverless")
    assert second.returncode == 0, second.stdout + second.stderr
    before, rows = rows, summary(second.stdout)
    read, new, _, same, _ = (int(cell.replace(",", "")) for cell in rows["query_history_sync"][1:])
    assert new and same and read < int(before["query_history_sync"][1].replace(",", "")) / 2
    unavailable = [job for job, (status, *_) in rows.items() if status == "unavailable"]
    assert "node_details_sync" in unavailable
    counts = f"{len(all_specs()) - len(unavailable)} success, {len(unavailable)} unavailable"
    assert f"Jobs: {counts}" in second.stdout
    assert second.stdout.count("stv_node_storage_capacity") == 1  # the reason
    assert "Traceback" not in second.stderr


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
