"""Servers that take alerts: one that speaks Slack's API over HTTP, and a mail server."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from qupersync_assets.sandbox.gateway.tls import TlsFiles
from qupersync_assets_tests.support.background_server import InBackground
from qupersync_assets_tests.support.demo_process import free_port


class _Api(BaseHTTPRequestHandler):
    server: Slack

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = json.loads(body)
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        answer: dict[str, Any] = {"ok": True}
        if self.server.fault or token != self.server.token:
            answer = {"ok": False, "error": self.server.fault or "invalid_auth"}
        else:
            self.server.messages.append(form | {"path": self.path})
        told = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Slack(InBackground, ThreadingHTTPServer):
    """Takes messages from who has the token; `fault` is the error that it answers with instead."""

    daemon_threads = True

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Api)
        self.token = token
        self.fault = ""
        self.messages: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/api/"


@dataclass
class _Box:
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        mail = message_from_bytes(envelope.content or b"", policy=policy.default)  # type: ignore[arg-type]
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.recipients += envelope.rcpt_tos
        return "250 taken"


class MailServer:
    """Takes mails after a login, with STARTTLS."""

    def __init__(self, tls: TlsFiles, user: str, password: str) -> None:
        self.box = _Box()
        self.port = free_port()

        def authenticate(
            _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any
        ) -> AuthResult:
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
