"""Faults of a network, and its latency: what a gateway does to the answers of its server, and when."""

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
    """What happens to a connection, once its server has sent `after` more bytes since a statement began.

    `action` is one of

    - `cut`: both ends are reset, as when a firewall forgets a connection,
    - `truncate`: the stream ends in good order, though in the middle of a message,
    - `stall`: nothing comes any more, and the connection stays open,
    - `slow`: what follows comes at `rate` bytes a second,
    - `corrupt`: the bits `flip` of the next byte are turned over.

    `statement` is a regular expression, and the `nth` statement of a session with a match begins the count;
    without one it begins with the first byte that the server sends. `times` says how often the fault happens,
    once a connection; None is without end. `fired` counts how often it has.
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
    def over(self) -> bool:
        """Whether it has happened as often as it shall."""
        return self.times is not None and self.fired >= self.times


class Wire:
    """The way of one session's answers through a fault to the client at `transport`.

    `cut_off()` resets the other end of the session. `hurt` says whether the fault has begun, which lasts.
    """

    _PAUSE = 0.02  # seconds between two pieces of a slow answer

    def __init__(self, fault: Fault, transport: asyncio.Transport, cut_off: Callable[[], None]) -> None:
        self.fault = fault
        self._transport = transport
        self._cut_off = cut_off
        self._seen = 0
        self._to_come: int | None = fault.after if fault.statement is None else None
        self.hurt = False
        self._late = b""

    def saw(self, statement: str) -> None:
        """The server is about to get this statement."""
        if self.fault.statement and re.search(self.fault.statement, statement):
            self._seen += 1
            if self._seen == self.fault.nth:
                self._to_come = self.fault.after

    def write(self, data: bytes) -> None:
        """Pass on what the server has sent, or what the fault leaves of it."""
        if self.hurt:
            self._write_hurt(data)
            return
        if self._to_come is None or len(data) <= self._to_come or self.fault.over:
            if self._to_come is not None:
                self._to_come = max(self._to_come - len(data), 0)
            self._transport.write(data)
            return
        good, rest = data[: self._to_come], data[self._to_come :]
        self.fault.fired += 1
        self._transport.write(good)
        if self.fault.action == "corrupt":
            self._to_come = None
            self._transport.write(bytes([rest[0] ^ self.fault.flip]) + rest[1:])
            return
        self.hurt = True
        if self.fault.action == "cut":
            reset(self._transport)
            self._cut_off()
        elif self.fault.action == "truncate":
            self._transport.close()
            self._cut_off()
        self._write_hurt(rest)

    def _write_hurt(self, data: bytes) -> None:
        if self.fault.action != "slow":
            return  # lost
        waiting, self._late = bool(self._late), self._late + data
        if not waiting:
            self._write_slowly()

    def _write_slowly(self) -> None:
        piece = max(int(self.fault.rate * self._PAUSE), 1)
        self._transport.write(self._late[:piece])
        self._late = self._late[piece:]
        if self._late and not self._transport.is_closing():
            asyncio.get_running_loop().call_later(self._PAUSE, self._write_slowly)


class Conditions(Protocol):
    """Of a network, as they are just now."""

    fault: Fault | None
    latency: float


class Answers:
    """The way of one session's answers to the client at `transport()`, under the conditions of the moment.

    `cut_off()` resets the other end of the session.
    """

    def __init__(
        self,
        conditions: Conditions,
        transport: Callable[[], asyncio.Transport],
        cut_off: Callable[[], None],
    ) -> None:
        self._conditions = conditions
        self._transport = transport
        self._cut_off = cut_off
        self._wire: Wire | None = None
        self._late: deque[Callable[[], object]] = deque()
        self._due = 0.0

    def saw(self, statement: str) -> None:
        """The server is about to get this statement."""
        self._follow_fault()
        if self._wire is not None:
            self._wire.saw(statement)

    def write(self, data: bytes) -> None:
        """Pass on what the server has sent; what follows need not wait until it has come."""
        self._in_time(partial(self._deliver, data))

    def close(self) -> None:
        """Close the client's end after all that was written."""
        self._in_time(self._transport().close)

    def _in_time(self, action: Callable[[], object]) -> None:
        latency = self._conditions.latency
        if not latency and not self._late:
            action()
            return
        loop = asyncio.get_running_loop()
        self._due = max(self._due, loop.time() + latency)
        self._late.append(action)
        loop.call_at(self._due, lambda: self._late.popleft()())

    def _deliver(self, data: bytes) -> None:
        self._follow_fault()
        (self._wire or self._transport()).write(data)

    def _follow_fault(self) -> None:
        """Lay the wire of the fault, if that has changed; what is hurt stays hurt."""
        fault, wire = self._conditions.fault, self._wire
        if fault is not (wire and wire.fault) and not (wire and wire.hurt):
            self._wire = Wire(fault, self._transport(), self._cut_off) if fault else None


def reset(transport: asyncio.Transport) -> None:
    """End a connection so that the other side gets a reset instead of an end in good order."""
    # https://man7.org/linux/man-pages/man7/socket.7.html: no lingering, what is unsent is thrown away.
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
