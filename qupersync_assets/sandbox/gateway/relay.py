"""The loopback port that the Redshift driver connects to: it relays the wire protocol to PostgreSQL.

Redshift drivers send start-up parameters that PostgreSQL refuses, and redshift_connector cannot read the list
of SASL mechanisms that PostgreSQL sends. The gateway mends both, so that the driver runs unchanged. Of what
the client sends then it looks at the statements, and has those refused that Redshift refuses. What the server
sends it passes on without looking at it, unless a test has set a fault.
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

from qupersync_assets.sandbox.gateway.faults import Answers, Fault, reset
from qupersync_assets.sandbox.gateway.startup import (
    Received,
    with_parameter,
    with_short_mechanism_list,
    without_redshift_parameters,
)

if TYPE_CHECKING:
    from qupersync_assets.sandbox.gateway.session import Session
    from qupersync_assets.sandbox.gateway.tls import TlsFiles
    from qupersync_assets.sandbox.rules.dialect import Mode

_SSL_REQUEST = 80877103
_GSSENC_REQUEST = 80877104
_PROTOCOL_MAJOR = 3
_LONGEST_STARTUP = 10_000  # bytes; PostgreSQL has the same limit

_WRITE_BUFFER = 1 << 20  # bytes held for a slow reader before the other side is paused


class Gateway:
    """Relays connections on `host`:`port` to the PostgreSQL server at `upstream` (host, port).

    It runs in a daemon thread of its own between `start()` and `stop()`. Port 0 chooses a free one, which a
    later start uses again. `start()` raises OSError when the port cannot be had or the files of `tls` cannot
    be used; without `tls` the gateway declines TLS.

    `mode` is the kind of warehouse that it plays: `provisioned` (of several nodes), `single-node`,
    `serverless` or `multi-az`. With `lists_absent` views that the mode lacks are in its catalog all the same,
    and denied to everybody, as was reported of Serverless. While `strict`, which may be changed at any time,
    it refuses what Redshift refuses. `received` counts what came. `fault`, which may be set at any time, is
    what happens to its connections, those that are open too. `latency`, which may be set at any time as well,
    is the number of seconds that every answer is on its way; what is sent meanwhile follows as closely.
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
        self.received = Received()
        self.fault: Fault | None = None
        self.latency = 0.0
        self.tls = tls
        self.context: ssl.SSLContext | None = None
        self.host = host
        self._port = port
        self._connections: set[_Relay] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def port(self) -> int:
        """The TCP port listened on; known from the first `start()` on."""
        return self._port

    def start(self) -> None:
        """Listen; returns when clients can connect."""
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
        """Close the port and every connection, both ends; returns when that is done."""
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
        aborted: set[_Relay] = set()  # until Python 3.11.5 a TLS transport fails at the second time
        while self._connections:
            for connection in self._connections - aborted:
                connection.transport.abort()
                aborted.add(connection)
            await asyncio.sleep(0)

    def _accept(self) -> asyncio.Protocol:
        return _Client(self, self._connections)

    def new_session(self, runs: Callable[[str], None]) -> Session:
        """What a client's messages pass through after its start-up packet; `runs` is told its statements."""
        from qupersync_assets.sandbox.gateway.session import Session  # slow to import

        return Session(self.mode, lambda: self.strict, self._saw, runs, self.lists_absent)

    def _saw(self, kind: bytes) -> None:
        self.received.passwords += kind == b"p"


class _Relay(asyncio.Protocol):
    """One end of a relayed session: what it receives goes to `peer`, as fast as the peer takes it."""

    transport: asyncio.Transport

    def __init__(self, connections: set[_Relay], peer: _Relay | None = None) -> None:
        self.peer = peer
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        # asyncio sets this on connections that it opens, not on those that it accepts.
        self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.send(data)

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self.peer is not None:
            self.peer.finish()

    def finish(self) -> None:
        """Close this end, after what is still in its buffer."""
        self.transport.close()


class _Server(_Relay):
    """The server's end of a session with a Redshift driver: mends the first message, then relays."""

    _first: bytes | None = b""

    def data_received(self, data: bytes) -> None:
        if self._first is not None:
            data = self._first + data
            if len(data) < 5 or len(data) <= struct.unpack_from("!xi", data)[0]:
                self._first = data
                return
            self._first, data = None, with_short_mechanism_list(data)
        super().data_received(data)


class _Client(_Relay):
    """The client's end: reads the start-up packet, connects upstream, then relays."""

    def __init__(self, gateway: Gateway, connections: set[_Relay]) -> None:
        super().__init__(connections)
        self._gateway = gateway
        self._startup = b""
        self._task: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._securing = False
        self._answers = Answers(gateway, lambda: self.transport, self._cut_off)

    def send(self, data: bytes) -> None:
        self._answers.write(data)

    def finish(self) -> None:
        self._answers.close()

    def _cut_off(self) -> None:
        if self.peer is not None:
            reset(self.peer.transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.transport.write(self._session.feed(data) if self._session else data)
        else:
            self._startup += data
            if not self._securing:  # else the transport to answer on is not known yet
                self._read_startup()

    def eof_received(self) -> bool:
        # A client may close its writing half and still read; the server never does.
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
                # What came with the request came unencrypted: it must not pass for a part of the session.
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
        self.transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._securing = False
        self._read_startup()

    async def _connect(self, packet: bytes, is_session: bool) -> None:
        """Open the upstream session with `packet`, a start-up or (a cancel request) something else."""
        end: type[_Relay] = _Relay
        if is_session:
            mended = without_redshift_parameters(packet)
            end = _Relay if mended == packet else _Server
            packet = with_parameter(mended, b"redshift.mode", self._gateway.mode.encode())
            if self._gateway.lists_absent:
                packet = with_parameter(packet, b"redshift.lists_absent", b"on")
            self._session = self._gateway.new_session(self._answers.saw)
            self._startup = self._session.feed(self._startup)
        host, port = self._gateway.upstream
        loop = asyncio.get_running_loop()
        try:
            _, peer = await loop.create_connection(lambda: end(self._connections, self), host, port)
        except OSError as error:
            self._refuse(
                "08006", f"PostgreSQL behind the gateway at {host}:{port} cannot be reached: {error}"
            )
            return
        self.peer = peer
        peer.transport.write(packet + self._startup)
        if self.transport.is_closing():
            peer.transport.close()
        else:
            self.transport.resume_reading()

    def _refuse(self, sqlstate: str, message: str) -> None:
        fields = {"S": "FATAL", "V": "FATAL", "C": sqlstate, "M": message}
        body = b"".join(f"{key}{value}\0".encode() for key, value in fields.items()) + b"\0"
        self.transport.write(b"E" + struct.pack("!i", len(body) + 4) + body)
        self.transport.close()
