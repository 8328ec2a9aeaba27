"""The sandbox: a simulated Amazon Redshift and a target database, on one private PostgreSQL server.

The demo and the tests use it; no other package of the product imports it.
"""

from __future__ import annotations

import json
import secrets
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from qupersync_assets.core.environment import write_private
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sandbox.server.postgres_server import PostgresServer, SandboxError

if TYPE_CHECKING:
    from qupersync_assets.sandbox.gateway.tls import TlsFiles
    from qupersync_assets.sandbox.rules.dialect import Mode
    from qupersync_assets.sandbox.warehouse.access import Access
    from qupersync_assets.sandbox.workload.workload import Workload

__all__ = ["Sandbox", "SandboxError"]


class Sandbox:
    """The PostgreSQL server, its databases and the gateway, with all state in one folder.

    One process uses a folder at a time. The sandbox starts again after that process was killed. The folder
    may be deleted while the sandbox is stopped.

    Args:
        folder: contains all state; it is created if it is missing.
        mode: the kind of Redshift to simulate.
        lists_absent: see Gateway.
        user_activity: create a view svl_user_activity.
        tls: the gateway's certificate; without one the gateway declines TLS.

    Attributes:
        server: the PostgreSQL server.
    """

    def __init__(
        self,
        folder: Path,
        mode: Mode = "provisioned",
        *,
        lists_absent: bool = False,
        user_activity: bool = True,
        tls: TlsFiles | None = None,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.server = PostgresServer(self.folder)
        self._mode: Mode = mode
        self._lists_absent = lists_absent
        self._user_activity = user_activity
        self._tls = tls
        self._gateway: Gateway | None = None
        self._passwords: dict[str, str] = {}

    @property
    def gateway(self) -> Gateway:
        """The port for Redshift drivers; SandboxError before the first start."""
        if self._gateway is None:
            raise SandboxError("The sandbox has not been started.")
        return self._gateway

    def start(self) -> None:
        """Start server and gateway, and create missing databases; raises SandboxError."""
        import psycopg2  # imported late: slow

        from qupersync_assets.sandbox.warehouse.databases import create_warehouse

        try:
            self.server.start()
            self._passwords = self._load_passwords()
            create_warehouse(
                self.server, self._passwords["reader"], self._passwords["owner"], user_activity=self._user_activity
            )
            upstream = (self.server.host, self.server.port)
            if self._gateway is None or self._gateway.upstream != upstream:
                self._gateway = Gateway(upstream, mode=self._mode, lists_absent=self._lists_absent, tls=self._tls)
            self._gateway.start()
        except (OSError, psycopg2.Error) as error:
            self.stop()
            raise SandboxError(f"The sandbox in {self.folder} cannot start: {str(error).strip()}.") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop gateway and server. Open connections are closed; data is kept."""
        if self._gateway is not None:
            self._gateway.stop()
        self.server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """Return QuperSync's environment variables for this sandbox, with passwords; needs `start()`.

        With TLS, SSL_CERT_FILE is included, because the driver trusts OpenSSL's default certificates.
        """
        trust = {"SSL_CERT_FILE": str(self._tls.ca)} if self._tls else {}
        return {
            "REDSHIFT_HOST": self.gateway.host,
            "REDSHIFT_PORT": str(self.gateway.port),
            "REDSHIFT_DATABASE": "redshift",
            "REDSHIFT_USER": "qupersync_reader",
            "REDSHIFT_PASSWORD": self._passwords["reader"],
            "REDSHIFT_SSL": "true" if self._tls else "false",
            "POSTGRES_HOST": self.server.host,
            "POSTGRES_PORT": str(self.server.port),
            "POSTGRES_DATABASE": "quper",
            "POSTGRES_USER": "qupersync",
            "POSTGRES_PASSWORD": self._passwords["owner"],
            "CLUSTER_NAME": "sandbox",
            **trust,
        }

    def workload(self, seed: int = 7) -> Workload:
        """Return a generator of activity in the warehouse."""
        from qupersync_assets.sandbox.workload.workload import Workload

        return Workload(self.connect_redshift, seed)

    def create_user(self, name: str) -> None:
        """Create a login role with the privileges of qupersync_ordinary and the reader's password."""
        from qupersync_assets.sandbox.warehouse.databases import create_user

        with closing(self.connect_redshift()) as connection:
            create_user(connection, name, self._passwords["reader"])

    def set_access(self, user: str, **access: Unpack[Access]) -> None:
        """Change the access of a login role: `superuser`, `syslog`, `roles`; see Access.

        The change applies from the next statement on and survives a restart.
        """
        from qupersync_assets.sandbox.warehouse.access import set_access

        with closing(self.connect_redshift()) as connection, connection, connection.cursor() as cursor:
            set_access(cursor, user, **access)

    def create_database(self, name: str, *, cluster: str = "redshift", shared: bool = False) -> None:
        """Create a further database that simulates Redshift; see create_warehouse."""
        from qupersync_assets.sandbox.warehouse.databases import create_warehouse

        reader, owner = self._passwords["reader"], self._passwords["owner"]
        create_warehouse(self.server, reader, owner, name, cluster=cluster, shared=shared)

    def connect_redshift(self, database: str = "redshift") -> Any:
        """Open a psycopg2 connection as superuser to a database that simulates Redshift, without the gateway."""
        return self._connect(database)

    def connect_quper(self) -> Any:
        """Open a psycopg2 connection as superuser to the target database."""
        return self._connect("quper")

    def _connect(self, database: str) -> Any:
        import psycopg2

        return psycopg2.connect(self.server.dsn(database))

    def _load_passwords(self) -> dict[str, str]:
        file = self.folder / "roles.json"
        if not file.exists():
            write_private(file, json.dumps({role: secrets.token_hex(16) for role in ("reader", "owner")}))
        loaded: dict[str, str] = json.loads(file.read_text("utf-8"))
        return loaded
