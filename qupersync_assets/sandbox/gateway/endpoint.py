"""The two ends of a relayed session."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import cast

from qupersync_assets.sandbox.gateway.startup import with_short_mechanism_list

WRITE_BUFFER = 1 << 20  # bytes buffered for a slow reader before the other side is paused


class Endpoint(asyncio.Protocol):
    """One end of a relayed session: passes received bytes to `peer`, as fast as the peer accepts them."""

    transport: asyncio.Transport

    def __init__(self, connections: set[Endpoint], peer: Endpoint | None = None) -> None:
        self.peer = peer
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        # asyncio sets TCP_NODELAY only on connections that it opens.
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
        """Close this end after sending its buffer."""
        self.transport.close()


class ServerEndpoint(Endpoint):
    """The server's end of a session with a Redshift driver: corrects the first message, then relays."""

    _first: bytes | None = b""

    def data_received(self, data: bytes) -> None:
        if self._first is not None:
            data = self._first + data
            if len(data) < 5 or len(data) <= struct.unpack_from("!xi", data)[0]:
                self._first = data
                return
            self._first, data = None, with_short_mechanism_list(data)
        super().data_received(data)
