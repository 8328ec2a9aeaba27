"""How a run launcher talks to the run server: one request and one answer, each a line of JSON, over a Unix socket.

The socket is in the storage folder of the Dagster instance, which containers of one host can share. Only the user of
the run server can open it; a request names a run and nothing else.
"""

import json
import os
import socket
import struct
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = "run-server.sock"
LOCK_NAME = "run-server.lock"
# A busy machine answers slowly, and a server whose code has changed imports it first.
ANSWER_SECONDS = 60.0
_MAX_BYTES = 10_000


class RunServerGone(ConnectionError):
    """No run server listens: nothing was sent."""


class RunServerSilent(RuntimeError):
    """The run server has got a request and has not answered it."""


def listen(folder: Path) -> socket.socket:
    """Listen on the socket of a folder, in place of an earlier server, which must have ended."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    (folder / NAME).unlink(missing_ok=True)
    umask = os.umask(0o177)
    try:
        with _address(folder) as address:
            listener.bind(address)
    finally:
        os.umask(umask)
    listener.listen(128)
    return listener


@contextmanager
def connected(folder: Path) -> Iterator[socket.socket]:
    """Connect to the run server of a storage folder.

    Raises:
        RunServerGone: none listens.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            with _address(folder) as address:
                connection.connect(address)
        except OSError as error:
            raise RunServerGone(f"No run server listens in {folder}: {error.strerror}") from error
        yield connection


def ask(connection: socket.socket, action: str, run_id: str) -> dict[str, Any]:
    """Send a request, and return the answer.

    Raises:
        RunServerSilent: the server has ended before its answer, or does not answer in time.
    """
    try:
        send(connection, {"action": action, "run_id": run_id})
        return receive(connection)
    except (OSError, ValueError) as error:
        raise RunServerSilent(f"The run server does not answer: {error}") from error


def ask_for_life(folder: Path) -> socket.socket:
    """Ask the run server of a storage folder for an answer, without waiting for it; return the connection that gets it.

    Raises:
        OSError: none listens, or the question cannot be sent at once.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(0)
        with _address(folder) as address:
            connection.connect(address)
        send(connection, {"action": "status", "run_id": str(uuid.UUID(int=0))})
    except OSError:
        connection.close()
        raise
    return connection


def is_own_user(connection: socket.socket) -> bool:
    """Return whether the process at the other end has the user of this one."""
    # https://man7.org/linux/man-pages/man7/unix.7.html: a struct ucred of pid, uid and gid.
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", found)[1] == os.getuid())


def send(connection: socket.socket, what: dict[str, Any]) -> None:
    """Send an object as a line of JSON."""
    connection.sendall(json.dumps(what).encode() + b"\n")


def receive(connection: socket.socket) -> dict[str, Any]:
    """Receive an object that was sent with `send`.

    Raises:
        OSError: the connection is closed or times out.
        ValueError: something else was sent.
    """
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(_MAX_BYTES)
        if not part or len(line) > _MAX_BYTES:
            raise ConnectionError("the connection was closed")
        line += part
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """Yield an address of the socket that is short, as a path of more than 107 bytes is refused."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{NAME}"
    finally:
        os.close(handle)


def main() -> int:
    """Return 0 if the run server of DAGSTER_HOME answers, else 1: a health check."""
    try:
        with connected(Path(os.environ["DAGSTER_HOME"], "storage")) as server:
            ask(server, "status", str(uuid.UUID(int=0)))
    except (RunServerGone, RunServerSilent) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
