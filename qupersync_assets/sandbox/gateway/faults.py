"""Simulates network faults and latency on the way from the server to the client."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol

Action = Literal["cut", "truncate", "stall", "slow", "corrupt"]


@dataclass
class Fault:
    """A fault of a connection.

    Attributes:
        action: `cut` resets both ends; `truncate` closes the stream in the middle of a message; `stall` sends
            no more bytes and keeps the connection open; `slow` sends the remaining bytes at `rate`; `corrupt`
            inverts bits of one byte.
        statement: regular expression of the statement that starts the count of bytes; without one the count
            starts with the first byte from the server.
        nth: which matching statement of a session starts the count.
        after: bytes that the server sends before the fault begins.
        times: number of connections to disturb, once each; None for all.
        rate: bytes per second of `slow`.
        flip: the bits that `corrupt` inverts.
        fired: how often the fault has occurred.
    """

    action: Action
    statement: str | None = None
    nth: int = 1
    after: int = 0
    times: int | None = 1
    rate: int = 1000
    flip: int = 0xFF
    fired: int = field(default=0, init=False)

    @property
    def exhausted(self) -> bool:
        """Whether the fault has occurred `times` times."""
        return self.times is not None and self.fired >= self.times


class FaultyStream:
    """Writes one session's responses to the client, and applies a fault to them.

    Args:
        fault: the fault.
        transport: the connection to the client.
        reset_server: resets the connection to the server.

    Attributes:
        active: whether the fault has begun; it then lasts until the connection ends.
    """

    _PAUSE = 0.02  # seconds between two chunks of a slow response

    def __init__(self, fault: Fault, transport: asyncio.Transport, reset_server: Callable[[], None]) -> None:
        self.fault = fault
        self._transport = transport
        self._reset_server = reset_server
        self._matches = 0
        self._bytes_before: int | None = fault.after if fault.statement is None else None
        self.active = False
        self._unsent = b""

    def before_statement(self, statement: str) -> None:
        """Start the count of bytes if this statement, which is sent to the server next, matches."""
        if self.fault.statement and re.search(self.fault.statement, statement):
            self._matches += 1
            if self._matches == self.fault.nth:
                self._bytes_before = self.fault.after

    def write(self, data: bytes) -> None:
        """Pass on bytes of the server, as far as the fault lets them pass."""
        if self.active:
            self._write_during_fault(data)
            return
        if self._bytes_before is None or len(data) <= self._bytes_before or self.fault.exhausted:
            if self._bytes_before is not None:
                self._bytes_before = max(self._bytes_before - len(data), 0)
            self._transport.write(data)
            return
        before, rest = data[: self._bytes_before], data[self._bytes_before :]
        self.fault.fired += 1
        self._transport.write(before)
        if self.fault.action == "corrupt":
            self._bytes_before = None
            self._transport.write(bytes([rest[0] ^ self.fault.flip]) + rest[1:])
            return
        self.active = True
        if self.fault.action == "cut":
            reset(self._transport)
            self._reset_server()
        elif self.fault.action == "truncate":
            self._transport.close()
            self._reset_server()
        self._write_during_fault(rest)

    def _write_during_fault(self, data: bytes) -> None:
        if self.fault.action != "slow":
            return  # the bytes are lost
        waiting, self._unsent = bool(self._unsent), self._unsent + data
        if not waiting:
            self._write_slowly()

    def _write_slowly(self) -> None:
        size = max(int(self.fault.rate * self._PAUSE), 1)
        self._transport.write(self._unsent[:size])
        self._unsent = self._unsent[size:]
        if self._unsent and not self._transport.is_closing():
            asyncio.get_running_loop().call_later(self._PAUSE, self._write_slowly)


class NetworkConditions(Protocol):
    """The present fault and latency (seconds) of a network."""

    fault: Fault | None
    latency: float


class ResponseStream:
    """Writes one session's responses to the client, with the present fault and latency.

    Args:
        conditions: fault and latency, which may change at any time.
        transport: returns the connection to the client.
        reset_server: resets the connection to the server.
    """

    def __init__(
        self,
        conditions: NetworkConditions,
        transport: Callable[[], asyncio.Transport],
        reset_server: Callable[[], None],
    ) -> None:
        self._conditions = conditions
        self._transport = transport
        self._reset_server = reset_server
        self._faulty: FaultyStream | None = None
        self._delayed: deque[Callable[[], object]] = deque()
        self._due = 0.0

    def before_statement(self, statement: str) -> None:
        """Note a statement that is sent to the server next."""
        self._update_fault()
        if self._faulty is not None:
            self._faulty.before_statement(statement)

    def write(self, data: bytes) -> None:
        """Pass on bytes of the server after the latency; returns at once."""
        self._after_latency(partial(self._deliver, data))

    def close(self) -> None:
        """Close the connection to the client after the bytes already written."""
        self._after_latency(self._transport().close)

    def _after_latency(self, action: Callable[[], object]) -> None:
        latency = self._conditions.latency
        if not latency and not self._delayed:
            action()
            return
        loop = asyncio.get_running_loop()
        self._due = max(self._due, loop.time() + latency)
        self._delayed.append(action)
        loop.call_at(self._due, lambda: self._delayed.popleft()())

    def _deliver(self, data: bytes) -> None:
        self._update_fault()
        (self._faulty or self._transport()).write(data)

    def _update_fault(self) -> None:
        """Use the present fault, unless a previous one is active."""
        fault, faulty = self._conditions.fault, self._faulty
        if fault is not (faulty and faulty.fault) and not (faulty and faulty.active):
            self._faulty = FaultyStream(fault, self._transport(), self._reset_server) if fault else None


def reset(transport: asyncio.Transport) -> None:
    """Close a connection with a TCP reset."""
    # https://man7.org/linux/man-pages/man7/socket.7.html: without lingering, unsent bytes are discarded.
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
