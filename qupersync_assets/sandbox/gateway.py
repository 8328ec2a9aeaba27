"""The loopback port that the Redshift driver connects to: it relays the wire protocol to PostgreSQL.

Redshift drivers send start-up parameters that PostgreSQL refuses, and redshift_connector cannot read the list
of SASL mechanisms that PostgreSQL sends. The gateway mends both, so that the driver runs unchanged. All that
follows it passes on without looking at it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from types import TracebackType
from typing import Self, cast

_SSL_REQUEST = 80877103
_GSSENC_REQUEST = 80877104
_PROTOCOL_MAJOR = 3
_AUTHENTICATION_SASL = 10
_LONGEST_STARTUP = 10_000  # bytes; PostgreSQL has the same limit

# What the Redshift drivers send and PostgreSQL takes for an unknown setting. Everything else is passed on.
_REDSHIFT_PARAMETERS = frozenset(
    b"client_protocol_version driver_version os_version driver_discovery_version plugin_name provider_name "
    b"idp_type identity_namespace token_type idc_client_display_name".split()
)

_WRITE_BUFFER = 1 << 20  # bytes held for a slow reader before the other side is paused


class Gateway:
    """Relays connections on `host`:`port` to the PostgreSQL server at `upstream` (host, port).

    It runs in a daemon thread of its own between `start()` and `stop()`. Port 0 chooses a free one, which a
    later start uses again. `start()` raises OSError when the port cannot be had. TLS is declined.
    """

    def __init__(self, upstream: tuple[str, int], host: str = "127.0.0.1", port: int = 0) -> None:
        self.upstream = upstream
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
        while self._connections:
            for connection in list(self._connections):
                connection.transport.abort()
            await asyncio.sleep(0)

    def _accept(self) -> asyncio.Protocol:
        return _Client(self.upstream, self._connections)


class _Relay(asyncio.Protocol):
    """One end of a relayed session: what it receives goes to `peer`, as fast as the peer takes it."""

    transport: asyncio.Transport

    def __init__(self, connections: set[_Relay], peer: _Relay | None = None) -> None:
        self.peer = peer
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        # asyncio does this only for sockets made with an explicit protocol; else each page waits 40 ms.
        self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # asyncio sets this on connections that it opens, not on those that it accepts.
        self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.transport.write(data)

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self.peer is not None:
            self.peer.transport.close()  # after what is still in its buffer


class _Server(_Relay):
    """The server's end of a session with a Redshift driver: mends the first message, then relays."""

    _first: bytes | None = b""

    def data_received(self, data: bytes) -> None:
        if self._first is not None:
            data = self._first + data
            if len(data) < 5 or len(data) <= struct.unpack_from("!xi", data)[0]:
                self._first = data
                return
            self._first, data = None, _with_short_mechanism_list(data)
        super().data_received(data)


class _Client(_Relay):
    """The client's end: reads the start-up packet, connects upstream, then relays."""

    def __init__(self, upstream: tuple[str, int], connections: set[_Relay]) -> None:
        super().__init__(connections)
        self._upstream = upstream
        self._startup = b""
        self._connecting: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.transport.write(data)
        else:
            self._startup += data
            self._read_startup()

    def eof_received(self) -> bool:
        # A client may close its writing half and still read; the server never does.
        if self.peer is None:
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
            if code in (_SSL_REQUEST, _GSSENC_REQUEST):
                self.transport.write(b"N")
                continue
            self.transport.pause_reading()
            self._connecting = asyncio.create_task(self._connect(packet, code >> 16 == _PROTOCOL_MAJOR))
            return

    async def _connect(self, packet: bytes, is_session: bool) -> None:
        """Open the upstream session with `packet`, a start-up or (a cancel request) something else."""
        end: type[_Relay] = _Relay
        if is_session:
            mended = _without_redshift_parameters(packet)
            end, packet = _Relay if mended == packet else _Server, mended
        host, port = self._upstream
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


def _without_redshift_parameters(packet: bytes) -> bytes:
    """The start-up packet with only the parameters that PostgreSQL may know."""
    parts = packet[8:].split(b"\0")
    pairs = zip(parts[::2], parts[1::2], strict=False)
    body = b"".join(
        name + b"\0" + value + b"\0" for name, value in pairs if name and name not in _REDSHIFT_PARAMETERS
    )
    return struct.pack("!i", len(body) + 9) + packet[4:8] + body + b"\0"


def _with_short_mechanism_list(data: bytes) -> bytes:
    """`data` with the list in its first message, if that asks for SASL, ended by its last name alone.

    PostgreSQL ends the list with an empty name, which redshift_connector 2.2 takes for a mechanism and fails.
    """
    kind: bytes
    length: int
    kind, length, code = struct.unpack_from("!cii", data.ljust(9, b"\0"))
    end = length + 1
    if kind != b"R" or code != _AUTHENTICATION_SASL or not data[:end].endswith(b"\0\0"):
        return data
    return kind + struct.pack("!i", length - 1) + data[5 : end - 1] + data[end:]
