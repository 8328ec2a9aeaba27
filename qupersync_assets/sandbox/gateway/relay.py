"""The loopback port for Redshift drivers: it relays the wire protocol to PostgreSQL.

Redshift drivers send start-up parameters that PostgreSQL refuses, and redshift_connector cannot read the list
of SASL mechanisms that PostgreSQL sends. The gateway corrects both, so that the driver runs unchanged. It
refuses the statements that Redshift refuses, and relays the server's messages without parsing them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from qupersync_assets.sandbox.gateway.endpoint import WRITE_BUFFER, Endpoint, ServerEndpoint
from qupersync_assets.sandbox.gateway.faults import Fault, ResponseStream, reset
from qupersync_assets.sandbox.gateway.row_descriptions import RowDescriptions
from qupersync_assets.sandbox.gateway.startup import (
    Received,
    error_response,
    with_parameter,
    without_redshift_parameters,
)

if TYPE_CHECKING:
    from qupersync_assets.sandbox.gateway.session import Session
    from qupersync_assets.sandbox.gateway.tls import TlsFiles
    from qupersync_assets.sandbox.rules.dialect import Mode
    from qupersync_assets.sandbox.rules.strict import Refusal

_SSL_REQUEST = 80877103
_GSSENC_REQUEST = 80877104
_PROTOCOL_MAJOR = 3
_LONGEST_STARTUP = 10_000  # bytes; PostgreSQL has the same limit


class Gateway:
    """Relays connections to a PostgreSQL server, in a daemon thread between `start()` and `stop()`.

    Attributes:
        upstream: host and port of the PostgreSQL server.
        mode: the kind of Redshift to simulate.
        lists_absent: the catalog lists views that the mode lacks, and all users are denied access to them;
            this was reported of Serverless.
        strict: refuse the statements that Redshift refuses; may be changed at any time.
        refuse: returns the error with which the cluster refuses a statement in its present state, None if it does not.
        cursor_limit: maximum bytes of the whole result of a cursor; None for no limit.
        uppercase_names: whether describe_field_name_in_uppercase is on for the user, when a session begins.
        received: counts of client messages.
        fault: disturbs new and open connections; may be changed at any time.
        latency: seconds that each response is delayed; may be changed at any time.
        tls: the certificate; without one the gateway declines TLS.
        host: the address that it listens on.
    """

    def __init__(
        self,
        upstream: tuple[str, int],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        mode: Mode = "provisioned",
        lists_absent: bool = False,
        strict: bool = True,
        tls: TlsFiles | None = None,
    ) -> None:
        self.upstream = upstream
        self.mode: Mode = mode
        self.lists_absent = lists_absent
        self.strict = strict
        self.refuse: Callable[[str], Refusal | None] = lambda statement: None
        self.cursor_limit: int | None = None
        self.uppercase_names = False
        self.received = Received()
        self.fault: Fault | None = None
        self.latency = 0.0
        self.tls = tls
        self.context: ssl.SSLContext | None = None
        self.host = host
        self._port = port
        self._connections: set[Endpoint] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def port(self) -> int:
        """The TCP port; port 0 is replaced by a free one at the first `start()`."""
        return self._port

    def start(self) -> None:
        """Listen; returns when clients can connect.

        Raises:
            OSError: the port is in use, or the files of `tls` cannot be used.
        """
        if self._thread is not None:
            return
        self.context = self.tls.server_context() if self.tls else None
        listener = socket.create_server((self.host, self._port))
        self._port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._serve(listener, ready),), name="gateway", daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Close the port and all connections; returns when they are closed."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        try:
            server = await self._loop.create_server(self._accept, sock=listener)
        finally:
            ready.set()
        await self._stopping.wait()
        server.close()
        aborted: set[Endpoint] = set()  # up to Python 3.11.5 a TLS transport fails if aborted twice
        while self._connections:
            for connection in self._connections - aborted:
                connection.transport.abort()
                aborted.add(connection)
            await asyncio.sleep(0)

    def _accept(self) -> asyncio.Protocol:
        return _Client(self, self._connections)

    def new_session(self, on_statement: Callable[[str], None]) -> Session:
        """Build the filter for a client's messages after its start-up packet; see Session."""
        from qupersync_assets.sandbox.gateway.session import Session  # slow to import

        return Session(
            self.mode,
            lambda: self.strict,
            self._count,
            on_statement,
            self.lists_absent,
            refuse=lambda statement: self.refuse(statement),
            cursor_limit=lambda: self.cursor_limit,
            uppercase_names=self.uppercase_names,
        )

    def _count(self, kind: bytes) -> None:
        self.received.passwords += kind == b"p"


class _Client(Endpoint):
    """The client's end: reads the start-up packet, connects upstream, then relays."""

    def __init__(self, gateway: Gateway, connections: set[Endpoint]) -> None:
        super().__init__(connections)
        self._gateway = gateway
        self._startup = b""
        self._task: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._securing = False
        self._descriptions: RowDescriptions | None = None
        self._responses = ResponseStream(gateway, lambda: self.transport, self._reset_server)

    def send(self, data: bytes) -> None:
        self._responses.write(self._descriptions.feed(data) if self._descriptions else data)

    def finish(self) -> None:
        self._responses.close()

    def _reset_server(self) -> None:
        if self.peer is not None:
            reset(self.peer.transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.transport.write(self._session.feed(data) if self._session else data)
        else:
            self._startup += data
            if not self._securing:  # the transport changes during the TLS handshake
                self._read_startup()

    def eof_received(self) -> bool:
        # A client may close its writing half and continue to read; the server never does.
        if self.peer is None or self.transport.get_extra_info("sslcontext"):
            return False
        if not self.peer.transport.is_closing():
            self.peer.transport.write_eof()
        return True

    def _read_startup(self) -> None:
        while len(self._startup) >= 8:
            length, code = struct.unpack_from("!ii", self._startup)
            if not 8 <= length <= _LONGEST_STARTUP:
                self._refuse("08P01", f"invalid length of start-up packet: {length}")
                return
            if len(self._startup) < length:
                return
            packet, self._startup = self._startup[:length], self._startup[length:]
            received, context = self._gateway.received, self._gateway.context
            received.tls_requests += code == _SSL_REQUEST
            if code == _SSL_REQUEST and context is not None:
                # Bytes after the request were sent unencrypted: they must not become part of the session.
                self._startup, self._securing = b"", True
                self._task = asyncio.create_task(self._secure(context))
                return
            if code in (_SSL_REQUEST, _GSSENC_REQUEST):
                self.transport.write(b"N")
                continue
            received.startups += 1
            self.transport.pause_reading()
            self._task = asyncio.create_task(self._connect(packet, code >> 16 == _PROTOCOL_MAJOR))
            return

    async def _secure(self, context: ssl.SSLContext) -> None:
        plain, loop = self.transport, asyncio.get_running_loop()
        plain.pause_reading()
        plain.write(b"S")
        try:
            secured = await loop.start_tls(plain, self, context, server_side=True)
        except OSError:
            self._gateway.received.tls_failures += 1
            self._connections.discard(self)
            plain.abort()
            return
        self._gateway.received.tls_handshakes += 1
        self.transport = cast(asyncio.Transport, secured)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._securing = False
        self._read_startup()

    async def _connect(self, packet: bytes, is_session: bool) -> None:
        """Connect to the server and send `packet`: a start-up packet, or a cancel request."""
        end: type[Endpoint] = Endpoint
        if is_session:
            accepted = without_redshift_parameters(packet)
            end = Endpoint if accepted == packet else ServerEndpoint
            packet = with_parameter(accepted, b"redshift.mode", self._gateway.mode.encode())
            if self._gateway.lists_absent:
                packet = with_parameter(packet, b"redshift.lists_absent", b"on")
            self._session = self._gateway.new_session(self._responses.before_statement)
            if self._session.uppercase_names:
                self._descriptions = RowDescriptions(self._session)
            self._startup = self._session.feed(self._startup)
        host, port = self._gateway.upstream
        loop = asyncio.get_running_loop()
        try:
            _, peer = await loop.create_connection(lambda: end(self._connections, self), host, port)
        except OSError as error:
            self._refuse("08006", f"PostgreSQL at {host}:{port} cannot be reached: {error}")
            return
        self.peer = peer
        peer.transport.write(packet + self._startup)
        if self.transport.is_closing():
            peer.transport.close()
        else:
            self.transport.resume_reading()

    def _refuse(self, sqlstate: str, message: str) -> None:
        self.transport.write(error_response(sqlstate, message))
        self.transport.close()
