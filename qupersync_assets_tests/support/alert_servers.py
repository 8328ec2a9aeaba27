"""Servers that receive alerts: a webhook over HTTP, and a mail server."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import quote

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from qupersync_assets.sandbox.gateway.tls import TlsFiles
from qupersync_assets_tests.support.background_server import InBackground
from qupersync_assets_tests.support.demo_process import free_port


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        login = b64encode(f"bot:{self.server.password}".encode("latin-1")).decode()
        fault = "" if self.headers["Authorization"] == f"Basic {login}" else "invalid_auth"
        fault = self.server.fault or fault
        if not fault:
            self.server.messages.append(f"{message['title']}\n{message['message']}")
            self.server.kinds.append(message["type"])
        time.sleep(self.server.delay)
        with suppress(ConnectionError):  # the client has given up
            self.send_response(403 if fault else 200)
            self.send_header("Content-Length", str(len(fault)))
            self.end_headers()
            self.wfile.write(fault.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Webhook(InBackground, ThreadingHTTPServer):
    """Receives Apprise's JSON from a client that knows the password.

    Attributes:
        fault: if not empty, the body of its response to every request, with status 403.
        delay: seconds between receiving an alert and the response.
        messages: title and body of each alert received.
        kinds: their types, by Apprise's names.
    """

    daemon_threads = True

    def __init__(self, password: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.password = password
        self.fault = ""
        self.delay = 0.0
        self.messages: list[str] = []
        self.kinds: list[str] = []

    @property
    def url(self) -> str:
        """The URL for ALERT_URLS."""
        return f"json://bot:{quote(self.password, safe='')}@127.0.0.1:{self.server_port}/"


@dataclass
class _Box:
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.unknown:
            return "550 mailbox unavailable"
        envelope.rcpt_tos.append(address)
        return "250 accepted"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        mail = message_from_bytes(envelope.content or b"", policy=policy.default)  # type: ignore[arg-type]
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.recipients += envelope.rcpt_tos
        return "250 accepted"


class MailServer:
    """Receives mails after a login with STARTTLS; refuses the recipients in `box.unknown`."""

    def __init__(self, tls: TlsFiles, user: str, password: str) -> None:
        self.box = _Box()
        self.port = free_port()

        def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
            known = LoginPassword(user.encode(), password.encode())
            return AuthResult(success=data == known, handled=False)

        self._controller = Controller(
            self.box,
            "127.0.0.1",
            self.port,
            tls_context=tls.server_context(),
            require_starttls=True,
            auth_required=True,
            authenticator=authenticate,
        )

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()
