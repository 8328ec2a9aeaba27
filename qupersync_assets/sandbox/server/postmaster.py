"""The main process of a PostgreSQL server: its status, and how to stop it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

_STOP_SECONDS = 30.0


def stop_orphan(data: Path) -> None:
    """Stop a postmaster of the folder `data` whose parent was killed, and remove its pid file."""
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
    # PostgreSQL refuses to start if another process has this number by now.
    (data / "postmaster.pid").unlink(missing_ok=True)


def _serves(pid: int, data: Path) -> bool:
    import psutil  # imported late: needed only after a crash

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and str(data) in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def status(data: Path) -> tuple[int | None, str]:
    """Return process id and status of the postmaster from its pid file."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None, ""
    return (int(lines[0]) if lines and lines[0].isdigit() else None), (lines[7].strip() if len(lines) > 7 else "")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a postmaster that this process has started; returns when it has ended."""
    for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, kill
        process.send_signal(sign)
        try:
            process.wait(_STOP_SECONDS)
            return
        except subprocess.TimeoutExpired:
            continue
