"""Forks of a process that has imported everything: none while a thread of it works, and none outlives its parent.

A fork copies the memory of all threads but runs only one: a lock that another thread holds stays locked in it.
"""

import ctypes
import os
import signal
import sys
import threading

# Held by threads while they do anything that takes locks; a fork waits for it.
FORK_LOCK = threading.RLock()

# https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
_PR_SET_PDEATHSIG = 1
_parent = 0
_is_forked_run = False


def become_run(parent: int) -> None:
    """Make this process, a fork of process `parent`, a run: it ends with its parent, and its forks end with it."""
    global _is_forked_run
    _is_forked_run = True
    end_with(parent)
    os.register_at_fork(after_in_child=lambda: end_with(_parent))


def is_forked_run() -> bool:
    """Return whether this process is a run that was forked, so that steps can be forks of it."""
    return _is_forked_run


def end_with(parent: int) -> None:
    """Let the kernel kill this process as soon as its parent has ended. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it has ended before
            os._exit(1)


def _before() -> None:
    global _parent
    FORK_LOCK.acquire()
    _parent = os.getpid()


os.register_at_fork(before=_before, after_in_parent=FORK_LOCK.release, after_in_child=FORK_LOCK.release)
