"""A database server that requests a cleartext password and repeats it in its error message."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct

from qupersync_assets_tests.support.background_server import InBackground

_SSL_REQUEST, _GSSENC_REQUEST = 80877103, 80877104


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, struct.error):
            while struct.unpack_from("!i", self._body(b""))[0] in (_SSL_REQUEST, _GSSENC_REQUEST):
                self.wfile.write(b"N")
            self.wfile.write(b"R" + struct.pack("!ii", 8, 3))  # AuthenticationCleartextPassword
            password = self._body(self.rfile.read(1)).rstrip(b"\0")
            message = b"no login with the password '" + password + b"'"
            fields = b"SFATAL\0C28000\0M" + message + b"\0\0"
            self.wfile.write(b"E" + struct.pack("!i", len(fields) + 4) + fields)

    def _body(self, _kind: bytes) -> bytes:
        return self.rfile.read(struct.unpack("!i", self.rfile.read(4))[0] - 4)


class Parrot(InBackground, socketserver.ThreadingTCPServer):
    """Implements the login of the PostgreSQL protocol, on `port`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)

    @property
    def port(self) -> int:
        address: tuple[str, int] = socket.socket.getsockname(self.socket)
        return address[1]
